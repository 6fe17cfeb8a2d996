"""The layers against PyTorch's, and what they promise about sizes."""

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mtl_keras import BilinearUpsampling, PixelNormalization, SpreadLike
from tests import harness


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 1), (2, 3), (7, 9)])
def test_upsampling_equals_torch(factor, size):
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype("float32")
    expected = F.interpolate(
        torch.from_numpy(x).permute(0, 3, 1, 2).double(), scale_factor=factor, mode="bilinear", align_corners=False
    )
    actual = keras.ops.convert_to_numpy(BilinearUpsampling(factor)(x))
    assert harness.relative_error(actual, expected.permute(0, 2, 3, 1)) < 1e-6


def test_upsampling_keeps_a_free_size_free():
    assert BilinearUpsampling(4)(keras.Input((None, 6, 3))).shape == (None, None, 24, 3)


def test_upsampling_in_half_precision(precision):
    precision("mixed_bfloat16")
    x = np.linspace(0, 1, 12, dtype="float32").reshape(1, 2, 2, 3)
    half = BilinearUpsampling(2)(x)
    assert keras.backend.standardize_dtype(half.dtype) == "bfloat16"
    full = keras.ops.convert_to_numpy(BilinearUpsampling(2, dtype="float32")(x))
    # bfloat16 has 8 significant bits.
    assert np.abs(keras.ops.convert_to_numpy(keras.ops.cast(half, "float32")) - full).max() < 2**-7


def test_spread_repeats_a_pooled_map():
    rng = np.random.default_rng(0)
    pooled = rng.normal(size=(2, 1, 1, 3)).astype("float32")
    spread = SpreadLike()(pooled, rng.normal(size=(2, 4, 5, 7)).astype("float32"))
    assert np.array_equal(keras.ops.convert_to_numpy(spread), np.broadcast_to(pooled, (2, 4, 5, 3)))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
def test_pixels_of_any_dtype_are_normalized(dtype):
    mean, std = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3)).astype(dtype)
    actual = keras.ops.convert_to_numpy(PixelNormalization(mean, std, 4)(keras.ops.convert_to_tensor(pixels)))
    np.testing.assert_allclose(actual, (pixels.astype("float64") - mean) / std, atol=1e-6)


def test_pixels_are_centred_before_they_are_rounded(precision):
    """bfloat16 holds integers up to 256 only; the normalised value must still be within its rounding."""
    precision("mixed_bfloat16")
    pixels = np.arange(200.0, 248.0, dtype="float32").reshape(1, 4, 4, 3) + 0.3
    normalized = PixelNormalization((224.0,) * 3, (50.0,) * 3, 4)(pixels)
    actual = keras.ops.convert_to_numpy(keras.ops.cast(normalized, "float32"))
    np.testing.assert_allclose(actual, (pixels - 224) / 50, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize(
    "size, message",
    [((63, 64), "is 63x64 .* of 16: pad it to 64x64"), ((33, 17), "is 33x17 .* of 16: pad it to 48x32")],
)
def test_a_wrong_size_names_the_next(size, message):
    with pytest.raises(ValueError, match=message):
        PixelNormalization((0,) * 3, (1,) * 3, 16)(np.zeros((1, *size, 3), "float32"))
