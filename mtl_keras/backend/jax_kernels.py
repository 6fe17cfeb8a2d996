"""What JAX computes in a form of ours: XLA's own would pass over memory more often, above all for the gradients."""

import functools

import jax
import numpy as np


@functools.cache
def batch_norm(epsilon: float):
    """A function of x, gamma, beta and a shift to y, of x's precision, and the batch's mean and (biased) variance.

    Mean and variance are taken in one pass over x, of its distance to the shift, a value of each channel: the nearer
    that is to the mean, in deviations, the more digits the variance keeps. Gradients come back through y alone.
    """

    def forward(x, gamma, beta, shift):
        wide = x.astype("float32")
        distance = wide - shift
        count = x.size // x.shape[-1]
        offset = channel_sums(distance) / count
        # Both squares may overflow; infinity less infinity would leave no number.
        square = jax.numpy.minimum(offset * offset, jax.numpy.finfo("float32").max)
        spread = channel_sums(distance * distance) / count
        mean, variance = shift + offset, jax.numpy.maximum(spread - square, 0.0)
        scale = jax.lax.rsqrt(variance + epsilon)
        y = ((wide - mean) * (scale * gamma) + beta).astype(x.dtype)
        return (y, mean, variance), (x, gamma, mean, scale)

    def backward(saved, gradients):
        x, gamma, mean, scale = saved
        gradient = gradients[0].astype("float32")
        normalized = (x.astype("float32") - mean) * scale
        of_beta, of_gamma = channel_sums(gradient), channel_sums(gradient * normalized)
        count = x.size // x.shape[-1]
        of_x = (gradient - (of_beta + normalized * of_gamma) / count) * (scale * gamma)
        return of_x.astype(x.dtype), of_gamma, of_beta, None

    function = jax.custom_vjp(lambda *inputs: forward(*inputs)[0])
    function.defvjp(forward, backward)
    return function


def channel_sums(x):
    """(batch, height, width, channels) summed to (channels,).

    XLA's sums on a CPU take some five times as long as a product with ones.
    """

    def by_product(x):
        images = x.reshape(x.shape[0], -1, x.shape[-1])
        ones = jax.numpy.ones(images.shape[:2], x.dtype)
        return jax.lax.dot_general(ones, images, (((1,), (1,)), ((0,), (0,)))).sum(0)

    return jax.lax.platform_dependent(x, cpu=by_product, default=lambda x: x.sum((0, 1, 2)))


def in_order(values):
    """Arrays as they are; on a GPU each is in memory in the order of its axes before anything is made of it."""

    def ordered(values):
        return [jax.lax.optimization_barrier(value.reshape(-1)).reshape(value.shape) for value in values]

    return jax.lax.platform_dependent(values, cpu=list, default=ordered)


def first_pixel(x):
    """The channels of a batch's first pixel, in float32; no gradient comes back through them."""
    return jax.lax.stop_gradient(x[0, 0, 0]).astype("float32")


def pointwise(x, kernel):
    """A 1×1 convolution as a matrix product.

    The predictors are float32 behind layers of half precision: XLA takes the cast into the product, where cuDNN's
    convolution needs a copy.
    """
    return jax.lax.dot_general(x, kernel[0, 0], (((3,), (0,)), ((), ())))


@functools.cache
def max_pool(pool_size: tuple[int, int], strides: tuple[int, int], size: tuple[int, int]):
    """A function of x, (batch, *size, channels), to the maxima of its windows; the first of equals gets the gradient.

    It keeps which pixel of a window won, so that the gradient is gathered. XLA's own scatters it, adding atomically.
    """
    counts = [(side - window) // stride + 1 for side, window, stride in zip(size, pool_size, strides, strict=True)]
    corners = list(np.ndindex(*pool_size))

    def tap(x, corner):
        rows, columns = (
            slice(start, start + stride * (count - 1) + 1, stride)
            for start, stride, count in zip(corner, strides, counts, strict=True)
        )
        return x[:, rows, columns]

    def forward(x):
        y = tap(x, corners[0])
        winner = jax.numpy.zeros(y.shape, "uint8" if len(corners) <= 256 else "int32")
        for index, corner in enumerate(corners[1:], start=1):
            candidate = tap(x, corner)
            winner = jax.numpy.where(candidate > y, winner.dtype.type(index), winner)
            y = jax.numpy.maximum(candidate, y)
        return y, winner

    def backward(winner, gradient):
        zero = jax.numpy.zeros((), gradient.dtype)
        of_x = zero
        for index, corner in enumerate(corners):
            spread = [
                (start, side - start - stride * (count - 1) - 1, stride - 1)
                for start, side, stride, count in zip(corner, size, strides, counts, strict=True)
            ]
            won = jax.numpy.where(winner == index, gradient, zero)
            of_x = of_x + jax.lax.pad(won, zero, ((0, 0, 0), *spread, (0, 0, 0)))
        return (of_x,)

    function = jax.custom_vjp(lambda x: forward(x)[0])
    function.defvjp(forward, backward)
    return function


def upsample_bilinear(x, factor: int):
    """(batch, height, width, channels) upsampled by a whole factor: sums that XLA fuses, where it would copy stacks."""
    return _upsample_axis(_upsample_axis(x, factor, axis=1), factor, axis=2)


def _upsample_axis(x, factor, *, axis):
    # Where the output pixels of an input pixel lie, from its centre; what they take of the ones before and after.
    position = (np.arange(factor) + 0.5) / factor - 0.5
    weights = np.maximum(-position, 0), 1 - np.abs(position), np.maximum(position, 0)
    size = x.shape[axis]
    first, last = (jax.lax.slice_in_dim(x, start, start + 1, axis=axis) for start in (0, size - 1))
    edged = jax.lax.concatenate([first, x, last], axis)
    y = sum(
        jax.numpy.expand_dims(jax.lax.slice_in_dim(edged, start, start + size, axis=axis), axis + 1)
        * weight.astype(x.dtype).reshape(factor, *[1] * (3 - axis))
        for start, weight in enumerate(weights)
    )
    return y.reshape(*(side * factor if each == axis else side for each, side in enumerate(x.shape)))


def interpolate(matrix, x):
    """Each image's rows weighted and summed: (m, n) by (batch, n, channels) to (batch, m, channels).

    As a product for each image, which leaves the axes in their order; as one product for all, the result would have to
    be transposed.
    """
    matrices = jax.numpy.broadcast_to(matrix, (x.shape[0], *matrix.shape))
    return jax.lax.dot_general(matrices, x, (((2,), (1,)), ((0,), (0,))))
