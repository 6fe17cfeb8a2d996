"""Each form of a dilated convolution against XLA's own, in values and gradients; and which form a platform gets."""

import numpy as np
import pytest

jax = pytest.importorskip("jax")

from mtl_keras.backend import jax_dilated  # noqa: E402

# Sizes that the rate divides and others, smaller than the rate too; kernels of several odd sides.
CASES = [
    ((8, 16), (3, 3), (2, 2)),
    ((9, 12), (3, 3), (3, 3)),
    ((7, 10), (3, 3), (6, 4)),
    ((5, 4), (3, 3), (9, 9)),
    ((9, 13), (1, 3), (9, 9)),
    ((11, 8), (5, 3), (2, 3)),
]


def operands(size, sides, dtype="float32"):
    rng = np.random.default_rng(0)
    shapes = (2, *size, 5), (*sides, 5, 4), (2, *size, 4)
    return [jax.numpy.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def assert_alike(found, expected, tolerance=1e-6):
    assert [value.dtype for value in found] == [value.dtype for value in expected]
    for ours, theirs in zip(found, expected, strict=True):
        ours, theirs = (np.asarray(value, "float64") for value in (ours, theirs))
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


@pytest.mark.parametrize("size, sides, rate", CASES)
def test_values_and_gradients_are_xla_s(size, sides, rate):
    x, kernel, gradient = operands(size, sides)
    expected = jax.vjp(lambda *inputs: jax_dilated._whole(rate, *inputs), x, kernel)
    y, back = jax.vjp(jax.jit(jax_dilated.dilated_convolution(rate)), x, kernel)
    assert_alike([y, *back(gradient)], [expected[0], *expected[1](gradient)])
    assert_alike(
        jax_dilated._gradients_by_grids(rate, x, kernel, gradient),
        expected[1](gradient),
    )
    assert_alike([jax_dilated._by_taps(rate, x, kernel)], [expected[0]])
    assert_alike(jax_dilated._gradients_by_taps(rate, x, kernel, gradient), expected[1](gradient))


@pytest.mark.parametrize("dtype, tolerance", [("bfloat16", 2e-2), ("float16", 3e-3)])
def test_half_precision_stays_so(dtype, tolerance):
    x, kernel, gradient = operands((8, 16), (3, 3), dtype)
    y, back = jax.vjp(jax_dilated.dilated_convolution((2, 2)), x, kernel)
    whole, expected = jax.vjp(lambda *inputs: jax_dilated._whole((2, 2), *inputs), *operands((8, 16), (3, 3))[:2])
    found = [y, *back(gradient)]
    assert {str(value.dtype) for value in found} == {dtype}
    for ours, theirs in zip(found, [whole, *expected(operands((8, 16), (3, 3))[2])], strict=True):
        error = np.abs(np.asarray(ours, "float64") - np.asarray(theirs, "float64")).max()
        assert error <= tolerance * np.abs(np.asarray(theirs)).max()


def test_grids_are_what_a_rate_keeps_apart():
    x = jax.numpy.arange(2 * 5 * 4, dtype="float32").reshape(2, 5, 4, 1)
    grids = np.asarray(jax_dilated._grids((2, 3), x)).reshape(2, 2, 3, 3, 2)
    for image in range(2):
        for row in range(2):
            for column in range(3):
                expected = np.zeros((3, 2))
                part = np.asarray(x)[image, row::2, column::3, 0]
                expected[: part.shape[0], : part.shape[1]] = part
                np.testing.assert_array_equal(grids[image, row, column], expected)


def convolutions(function, platform: str) -> list[str]:
    """The convolutions in a program of a function's value and gradients."""
    x, kernel, _ = operands((18, 18), (3, 3))
    step = jax.jit(jax.value_and_grad(lambda *inputs: (function(*inputs) ** 2).sum(), (0, 1)))
    program = step.trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
    return [line for line in program.splitlines() if "stablehlo.convolution" in line]


def test_a_gpu_has_no_gradient_that_strides_over_the_image():
    """That is what XLA has no form of cuDNN's for."""
    strides = "stride = [3, 3]"
    assert (
        sum(strides in line for line in convolutions(lambda *inputs: jax_dilated._whole((3, 3), *inputs), "cuda")) == 1
    )
    ours = convolutions(jax_dilated.dilated_convolution((3, 3)), "cuda")
    assert len(ours) == 3 and not any(strides in line for line in ours)


def test_a_cpu_has_products_alone_where_many_taps_lie_outside():
    """Of 18×18 pixels a rate of 2 has 86 % of the taps inside, 3 79 % and 6 60 %; gradients are products from 3 on."""
    assert [len(convolutions(jax_dilated.dilated_convolution(2 * (rate,)), "cpu")) for rate in (2, 3, 6)] == [3, 1, 0]
