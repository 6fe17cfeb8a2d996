"""The layers against PyTorch's, and what they promise about sizes."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mtl_keras import PixelNormalization, SpreadLike
from mtl_keras.layers import BatchNormalization, Conv2D, MaxPooling2D
from tests import harness


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


def test_batch_norm_over_a_single_value_is_refused_as_by_torch():
    layer = BatchNormalization(name="norm")
    assert layer(np.ones((1, 1, 1, 4), "float32"), training=False).shape == (1, 1, 1, 4)
    with pytest.raises(ValueError, match="norm: batch normalisation over a single value; train on batches of 2 or"):
        layer(np.ones((1, 1, 1, 4), "float32"), training=True)


@pytest.mark.parametrize("size", [(3, 5), (1, 1)])
def test_batch_norm_trains_as_torchs(size):
    """Outputs, gradients and running statistics; PyTorch's running variance has Bessel's correction, ours has not."""
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (4, *size, 6)).astype("float32")
    model = keras.Sequential([keras.Input((*size, 6)), BatchNormalization(momentum=0.9, epsilon=1e-5)])
    model.layers[0].gamma.assign(gamma := rng.uniform(0.5, 2, 6).astype("float32"))
    model.layers[0].beta.assign(beta := rng.normal(size=6).astype("float32"))
    model.compile(keras.optimizers.SGD(1.0), "mse")
    peer = torch.nn.BatchNorm2d(6, eps=1e-5, momentum=0.1).double()
    with torch.no_grad():
        peer.weight.copy_(torch.from_numpy(gamma))
        peer.bias.copy_(torch.from_numpy(beta))
    expected = peer(torch.from_numpy(x).double().permute(0, 3, 1, 2))
    # The target is 0, so that the loss is the mean square of the outputs.
    loss = model.train_on_batch(x, np.zeros_like(x))
    expected.square().mean().backward()
    assert loss == pytest.approx(expected.square().mean().item(), rel=1e-5)
    weights = [keras.ops.convert_to_numpy(weight) for weight in model.layers[0].weights]
    count = x.size // 6
    unbiased = peer.running_var.numpy() - 0.9
    for actual, wanted in zip(
        weights,
        [
            gamma - peer.weight.grad.numpy(),
            beta - peer.bias.grad.numpy(),
            peer.running_mean.numpy(),
            0.9 + unbiased * (count - 1) / count,
        ],
        strict=True,
    ):
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("policy, rounding", [("mixed_bfloat16", 2**-8), ("mixed_float16", 2**-11)])
def test_batch_norm_in_half_precision_rounds_what_it_gives_alone(policy, rounding):
    """Statistics and the weights' gradients are float32's; what lies in between has one rounding."""
    rng = np.random.default_rng(0)
    # Multiples of an eighth below 16 are exact in both.
    x = np.round(rng.normal(3, 2, (4, 3, 5, 6)) * 8).astype("float32") / 8
    target = rng.normal(size=x.shape).astype("float32")
    found = []
    for dtype in ("float32", policy):
        start, norm = harness.Offset(dtype=dtype), BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=dtype)
        model = keras.Sequential([keras.Input(batch_shape=x.shape), start, norm])
        model.compile(keras.optimizers.SGD(1.0), "mse")
        outputs = keras.ops.cast(model(x, training=True), "float32")
        assert keras.backend.standardize_dtype(model(x).dtype) == norm.compute_dtype
        model.train_on_batch(x, target)
        gradients = [start.offset, norm.gamma, norm.beta]
        found.append(
            [keras.ops.convert_to_numpy(each) for each in (norm.moving_mean, norm.moving_variance, outputs, *gradients)]
        )
    for name, wide, half, tolerance in zip(
        ("mean", "variance", "outputs", "of x", "of gamma", "of beta"),
        *found,
        (1e-6, 1e-6, *[rounding] * 4),
        strict=True,
    ):
        assert np.abs(half - wide).max() < 2 * tolerance * np.abs(wide).max(), name


@pytest.mark.parametrize("trainable", [True, False])
def test_batch_norm_predicts_as_keras_own(trainable):
    """Frozen, it does the same in training, and passes on the same gradients."""
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (4, 3, 5, 6)).astype("float32")
    values = [rng.uniform(0.5, 2, 6).astype("float32") for _ in range(4)]
    found = []
    for kind in (BatchNormalization, keras.layers.BatchNormalization):
        first, norm = keras.layers.Dense(6, kernel_initializer="identity"), kind(epsilon=1e-5, trainable=trainable)
        model = keras.Sequential([keras.Input(x.shape[1:]), first, norm])
        norm.set_weights(values)
        found.append([model.predict_on_batch(x)])
        if not trainable:
            model.compile(keras.optimizers.SGD(1.0), "mse")
            model.train_on_batch(x, np.zeros_like(x))
            found[-1] += [keras.ops.convert_to_numpy(weight) for weight in model.weights]
    for actual, expected in zip(*found, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("kernel_size, strides, dilation_rate", [(1, 1, 1), (1, 2, 1), (2, 1, 1), (3, 1, 3), (3, 2, 1)])
def test_convolution_is_keras_own(padding, kernel_size, strides, dilation_rate):
    x = np.random.default_rng(0).normal(size=(2, 9, 12, 5)).astype("float32")
    options = {"strides": strides, "dilation_rate": dilation_rate, "padding": padding}
    ours, theirs = Conv2D(4, kernel_size, **options), keras.layers.Conv2D(4, kernel_size, **options)
    expected = keras.ops.convert_to_numpy(theirs(x))
    ours.build(x.shape)
    ours.set_weights(theirs.get_weights())
    assert harness.relative_error(keras.ops.convert_to_numpy(ours(x)), torch.from_numpy(expected)) < 1e-6


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="the others are started from here")
@pytest.mark.parametrize("onednn", ["1", "0"])
def test_tensorflow_dilates_with_and_without_onednn(onednn):
    """Only its oneDNN kernels have the gradients; the other way is three times the work."""
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_ENABLE_ONEDNN_OPTS": onednn}
    done = subprocess.run([sys.executable, "-c", DILATED], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


DILATED = """
import keras, numpy as np, os, tensorflow as tf
from mtl_keras.layers import Conv2D

x = np.random.default_rng(0).normal(size=(2, 9, 12, 5)).astype("float32")
found, start = [], None
for layer in (Conv2D, keras.layers.Conv2D):
    model = keras.Sequential([keras.Input(x.shape[1:]), layer(4, 3, dilation_rate=3, padding="same")])
    start = start or model.get_weights()
    model.set_weights(start)
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.train_on_batch(x, np.ones((2, 9, 12, 4)))
    operations = {node.type for node in tf.function(model).get_concrete_function(x).graph.get_operations()}
    found.append((model.get_weights(), "SpaceToBatchND" in operations))
for ours, theirs in zip(found[0][0], found[1][0], strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
assert found[1][1] and found[0][1] == (os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0"), found
"""


@pytest.mark.parametrize(
    "kernel_size, dilation_rate, taps",
    [(3, (8, 11), 9), (3, (9, 2), 3), (3, (2, 12), 3), (3, (20, 20), 1), (5, (4, 3), 25), (5, (5, 12), 3)],
)
def test_taps_that_see_padding_alone_are_left_out(kernel_size, dilation_rate, taps):
    x = np.random.default_rng(0).normal(size=(2, 9, 12, 5)).astype("float32")
    options = {"dilation_rate": dilation_rate, "padding": "same", "use_bias": False}
    start = keras.layers.Conv2D(4, kernel_size, **options)
    start.build(x.shape)
    found = []
    ours, theirs = Conv2D(4, kernel_size, **options), keras.layers.Conv2D(4, kernel_size, **options)
    for layer in (ours, theirs):
        model = keras.Sequential([keras.Input(x.shape[1:]), layer])
        layer.set_weights(start.get_weights())
        model.compile(keras.optimizers.SGD(1.0), "mse")
        outputs = model.predict_on_batch(x)
        model.train_on_batch(x, np.zeros_like(outputs))
        found.append([outputs, *layer.get_weights()])
    for actual, expected in zip(*found, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    assert ours.multiply_adds(9, 12) == taps * 5 * 4 * 9 * 12


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("pool_size, strides", [(2, None), (3, 2), ((2, 3), 1)])
def test_max_pooling_is_keras_own(padding, pool_size, strides):
    x = np.random.default_rng(0).normal(size=(2, 9, 12, 5)).astype("float32")
    options = {"strides": strides, "padding": padding}
    ours, theirs = MaxPooling2D(pool_size, **options), keras.layers.MaxPooling2D(pool_size, **options)
    np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(layer(x)) for layer in (ours, theirs)))
    assert ours(keras.Input((9, None, 5))).shape == theirs(keras.Input((9, None, 5))).shape


@pytest.mark.parametrize("decimals", [8, 0])
@pytest.mark.parametrize("size", [(9, 12), (10, 13)])
def test_max_pooling_passes_gradients_on_as_torchs(size, decimals):
    """Rounded to whole numbers, many are equal, and the first of a window gets the gradient."""
    x = np.random.default_rng(0).normal(size=(2, *size, 5)).round(decimals).astype("float32")
    peer = torch.from_numpy(x).permute(0, 3, 1, 2).requires_grad_()
    F.max_pool2d(peer, 3, 2).square().mean().backward()
    start = harness.Offset()
    model = keras.Sequential([keras.Input(batch_shape=x.shape), start, MaxPooling2D(3, 2)])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.train_on_batch(x, np.zeros(model.output_shape, "float32"))
    gradient = -keras.ops.convert_to_numpy(start.offset)
    np.testing.assert_allclose(gradient, peer.grad.permute(0, 2, 3, 1).numpy(), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("axis, dtype", [(1, "float32"), (-1, "bfloat16")])
def test_batch_norm_of_another_axis_or_precision_is_keras_own(axis, dtype):
    x = np.random.default_rng(0).normal(3, 2, (2, 4, 4, 4)).astype("float32")
    layers = [kind(axis=axis, dtype=dtype) for kind in (BatchNormalization, keras.layers.BatchNormalization)]
    outputs = (keras.ops.cast(layer(x, training=True), "float32") for layer in layers)
    found, expected = map(keras.ops.convert_to_numpy, outputs)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert abs(found.mean(axis=tuple({0, 1, 2, 3} - {axis % 4}))).max() < 0.02


@pytest.mark.parametrize("mean", [0.0, 30.0, -1000.0])
def test_batch_norm_of_values_far_from_zero_keeps_its_digits(mean):
    """The rounding of float32 at the mean is what may be seen; a mean of squares less a square would leave nothing."""
    x = (mean + np.random.default_rng(0).normal(0, 1, (8, 16, 16, 4))).astype("float32")
    layer = BatchNormalization(momentum=0.0, epsilon=0.0)
    y = keras.ops.convert_to_numpy(layer(x, training=True))
    wide = x.astype("float64")
    expected = (wide - wide.mean((0, 1, 2))) / wide.std((0, 1, 2))
    tolerance = 1e-5 + 2**-23 * abs(mean)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer.moving_variance), wide.var((0, 1, 2)), rtol=tolerance)
    allowed = 10 * tolerance
    if keras.backend.backend() == "torch":  # whose own kernel, with a single thread, adds one value after the other
        peer = torch.nn.BatchNorm2d(4)(torch.from_numpy(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).detach().numpy()
        allowed = max(allowed, 1.1 * abs(peer - expected).max())
    np.testing.assert_allclose(y, expected, atol=allowed)


@pytest.mark.parametrize("magnitude", [1e18, 1e19, 1e20, 1e30])
def test_batch_norm_of_values_whose_squares_overflow_gives_numbers(magnitude):
    """An infinite variance scales what it normalises to zero, as in PyTorch; NaN would not say where a fault began."""
    x = (magnitude * np.random.default_rng(0).normal(1, 1, (2, 8, 8, 3))).astype("float32")
    layer = BatchNormalization(momentum=0.0, epsilon=0.0)
    y, variance = map(keras.ops.convert_to_numpy, (layer(x, training=True), layer.moving_variance))
    peer = torch.nn.BatchNorm2d(3, momentum=1.0)
    expected = peer(torch.from_numpy(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).detach().numpy()
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_array_equal(np.isinf(variance), np.isinf(peer.running_var.numpy()))
