"""Dilated convolutions as JAX computes them fastest; XLA's own have gradients that take many times as long."""

import functools
import math
from collections.abc import Iterator
from typing import Any

import jax

Rate = tuple[int, int]
Place = tuple[slice, ...]
# Up to which share of a kernel's taps inside the image products of the taps are faster than XLA's own: of 8×16 features
# a rate of 2 has 76 % inside, 3 66 %, 6 38 %.
MOST_INSIDE, MOST_INSIDE_BACKWARD = 0.7, 0.8


@functools.cache
def dilated_convolution(rate: Rate):
    """A function of x, (batch, height, width, channels), and a kernel of odd sides to x convolved, with "same" padding.

    On a CPU each tap of the kernel is a product with those pixels that have one there, where many taps lie outside.

    On a GPU it is cuDNN's, but for the kernel's gradient. XLA knows no such convolution of cuDNN's that dilates, and
    takes one whose kernel is as large as the image (github.com/openxla/xla/issues/34273); that of `_grids` it knows.
    """
    chosen = jax.lax.platform_dependent

    def forward(x, kernel):
        on_cpu = _by_taps if _share_inside(rate, x, kernel) <= MOST_INSIDE else _whole
        y = chosen(x, kernel, cpu=functools.partial(on_cpu, rate), default=functools.partial(_whole, rate))
        return y, (x, kernel)

    def backward(saved, gradient):
        on_cpu = _gradients_by_taps if _share_inside(rate, *saved) <= MOST_INSIDE_BACKWARD else _gradients
        on_gpu = functools.partial(_gradients_by_grids, rate)
        options = {"cpu": functools.partial(on_cpu, rate), "cuda": on_gpu, "rocm": on_gpu}
        return chosen(*saved, gradient, default=functools.partial(_gradients, rate), **options)

    function = jax.custom_vjp(lambda x, kernel: forward(x, kernel)[0])
    function.defvjp(forward, backward)
    return function


def _whole(rate: Rate, x, kernel):
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", rhs_dilation=rate, dimension_numbers=layout)


def _gradients(rate: Rate, x, kernel, gradient):
    return jax.vjp(functools.partial(_whole, rate), x, kernel)[1](gradient)


def _gradients_by_grids(rate: Rate, x, kernel, gradient):
    (of_x,) = jax.linear_transpose(lambda x: _whole(rate, x, kernel), x)(gradient)
    grids = _grids(rate, x)
    (of_kernel,) = jax.linear_transpose(lambda kernel: _whole((1, 1), grids, kernel), kernel)(_grids(rate, gradient))
    return of_x, of_kernel


def _grids(rate: Rate, x):
    """Images of every rate-th row and column of each image, which a dilated convolution does not mix.

    To each of them it is a convolution without dilation. Zeros fill up those with a row or a column less.
    """
    rows, columns = rate
    batch, height, width, channels = x.shape
    x = jax.numpy.pad(x, ((0, 0), (0, -height % rows), (0, -width % columns), (0, 0)))
    height, width = x.shape[1] // rows, x.shape[2] // columns
    x = x.reshape(batch, height, rows, width, columns, channels).transpose(0, 2, 4, 1, 3, 5)
    return x.reshape(batch * rows * columns, height, width, channels)


def _product(left, right, axis: int):
    """Sums over the channels of `left` and an axis of `right`; what is added up to others is not rounded to half."""
    wide = jax.numpy.promote_types(left.dtype, "float32")
    return jax.lax.dot_general(left, right, (((3,), (axis,)), ((), ())), preferred_element_type=wide)


def _by_taps(rate: Rate, x, kernel):
    size = x.shape[1:3]
    products = (
        _put(_product(x[:, *inputs], kernel[tap], axis=0), outputs, size)
        for tap, outputs, inputs in _taps(rate, size, kernel.shape[:2])
    )
    return sum(products).astype(x.dtype)


def _gradients_by_taps(rate: Rate, x, kernel, gradient):
    size, (rows, columns, *_) = x.shape[1:3], kernel.shape
    of_x: Any = 0.0
    of_taps = {}
    for tap, outputs, inputs in _taps(rate, size, (rows, columns)):
        there = gradient[:, *outputs]
        of_x += _put(_product(there, kernel[tap], axis=1), inputs, size)
        pixels, gradients = (values.reshape(-1, values.shape[-1]) for values in (x[:, *inputs], there))
        of_taps[tap] = jax.lax.dot_general(pixels, gradients, (((0,), (0,)), ((), ())))
    nothing = jax.numpy.zeros(kernel.shape[2:], kernel.dtype)
    of_kernel = [of_taps.get((row, column), nothing) for row in range(rows) for column in range(columns)]
    return of_x.astype(x.dtype), jax.numpy.stack(of_kernel).reshape(kernel.shape)


def _share_inside(rate: Rate, x, kernel) -> float:
    """Of the taps of all pixels, how many lie inside the image."""
    size, sides = x.shape[1:3], kernel.shape[:2]
    inside = sum(math.prod(part.stop - part.start for part in outputs) for _, outputs, _ in _taps(rate, size, sides))
    return inside / math.prod((*size, *sides))


def _taps(rate: Rate, size: Rate, sides: Rate) -> Iterator[tuple[Rate, Place, Place]]:
    """Of each tap of a kernel that reaches into an image: where it stands, for which outputs, and at which inputs."""
    for row in range(sides[0]):
        for column in range(sides[1]):
            outputs, inputs = [], []
            for index, count, side, step in zip((row, column), sides, size, rate, strict=True):
                offset = (index - count // 2) * step
                first, last = max(0, -offset), min(side, side - offset)
                outputs.append(slice(first, last))
                inputs.append(slice(first + offset, last + offset))
            if all(part.start < part.stop for part in outputs):
                yield (row, column), tuple(outputs), tuple(inputs)


def _put(values, place: Place, size: Rate):
    """An image of that size that is 0 but at a place."""
    margins = [(part.start, side - part.stop) for part, side in zip(place, size, strict=True)]
    return jax.numpy.pad(values, ((0, 0), *margins, (0, 0)))
