"""Upsampling, alone and before a convolution, against PyTorch's."""

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import zoo
from mtl_keras import BilinearUpsampling, UpsamplingConv2D
from mtl_keras.cost import multiply_adds
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


def features(scale, size, seed=0):
    """Deep features of five channels, and shallow ones of three at `scale` times their size."""
    rng = np.random.default_rng(seed)
    height, width = size
    deep = rng.normal(size=(2, height, width, 5)).astype("float32")
    return deep, rng.normal(size=(2, scale * height, scale * width, 3)).astype("float32")


def torchs_own(deep, shallow, kernel, bias):
    """The convolution of what is upsampled and joined, all at the large size; channels last."""
    deep, shallow = (x.permute(0, 3, 1, 2) for x in (deep, shallow))
    upsampled = F.interpolate(deep, shallow.shape[2:], mode="bilinear", align_corners=False)
    kernel = kernel.permute(3, 2, 0, 1)
    x = F.conv2d(torch.cat([upsampled, shallow], 1), kernel, bias, padding=kernel.shape[-1] // 2)
    return x.permute(0, 2, 3, 1)


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("scale", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (3, 2)])
def test_an_upsampling_convolution_equals_torchs(scale, size, kernel_size):
    inputs = features(scale, size)
    layer = UpsamplingConv2D(6, kernel_size, scale=scale, bias_initializer="normal")
    actual = keras.ops.convert_to_numpy(layer(list(inputs)))
    double = [torch.from_numpy(x).double() for x in (*inputs, *layer.get_weights())]
    assert harness.relative_error(actual, torchs_own(*double)) < 1e-6


def test_an_upsampling_convolution_passes_gradients_on_as_torchs():
    deep, shallow = features(4, (2, 3))
    parts = [harness.Offset(), harness.Offset()]
    layer = UpsamplingConv2D(6, 3, scale=4)
    inputs = [keras.Input(batch_shape=x.shape) for x in (deep, shallow)]
    model = keras.Model(inputs, layer([part(x) for part, x in zip(parts, inputs, strict=True)]))
    weights = [torch.from_numpy(x).double().requires_grad_() for x in (deep, shallow, *layer.get_weights())]
    torchs_own(*weights).square().mean().backward()
    model.compile(keras.optimizers.SGD(1.0), "mse")
    before = layer.get_weights()
    model.train_on_batch([deep, shallow], np.zeros(model.output_shape, "float32"))
    gradients = [-keras.ops.convert_to_numpy(part.offset) for part in parts]
    gradients += [old - new for old, new in zip(before, layer.get_weights(), strict=True)]
    for actual, weight in zip(gradients, weights, strict=True):
        assert harness.relative_error(actual, weight.grad) < 1e-4


def test_an_upsampling_convolution_in_half_precision(precision):
    precision("mixed_bfloat16")
    inputs = list(features(4, (2, 3)))
    layer = UpsamplingConv2D(6, 3, scale=4)
    half = layer(inputs)
    assert keras.backend.standardize_dtype(half.dtype) == "bfloat16"
    full = UpsamplingConv2D(6, 3, scale=4, dtype="float32")
    full.build([x.shape for x in inputs])
    full.set_weights(layer.get_weights())
    # bfloat16 has 8 significant bits.
    expected = torch.from_numpy(keras.ops.convert_to_numpy(full(inputs)).copy())
    assert harness.relative_error(keras.ops.convert_to_numpy(keras.ops.cast(half, "float32")), expected) < 2**-6


def test_an_upsampling_convolution_is_saved_and_keeps_a_free_size_free(tmp_path):
    inputs = [keras.Input((None, None, channels)) for channels in (5, 3)]
    model = keras.Model(inputs, UpsamplingConv2D(6, 3, scale=2, use_bias=False)(inputs))
    assert model.output_shape == (None, None, None, 6)
    model.save(tmp_path / "model.keras")
    batch = list(features(2, (3, 2)))
    found = keras.saving.load_model(tmp_path / "model.keras").predict_on_batch(batch)
    np.testing.assert_array_equal(found, model.predict_on_batch(batch))


@pytest.mark.parametrize(
    "options",
    [{"kernel_size": 2}, {"kernel_size": (3, 5)}, {"strides": 2}, {"dilation_rate": 2}, {"padding": "valid"}],
)
def test_what_an_upsampling_convolution_cannot_compute_is_refused(options):
    with pytest.raises(ValueError, match="needs an odd, square kernel"):
        UpsamplingConv2D(4, **{"kernel_size": 3, **options}, scale=4)


def test_an_upsampling_convolution_computes_less():
    """The branched network's two, of 256 and 48 channels to 256, at 32×64 in place of 8×16.

    There, its two dilated convolutions of rate 9, of 512 channels to 256, need one row of their kernels in three.
    """
    model = zoo.build("branched")
    plain, computed = (multiply_adds(model, 128, 256, computed=computed) for computed in (False, True))
    upsampled = 9 * 256 * 256 * 32 * 64
    low = 9 * 256 * 256 * 8 * 16
    interpolation = 256 * ((32 * 3 * 8) * (3 * 16) + 32 * (64 * 3 * 16))
    idle = 6 * 512 * 256 * 8 * 16
    assert plain - computed == 2 * (upsampled - low - interpolation + idle)
