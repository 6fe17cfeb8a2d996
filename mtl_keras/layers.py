"""The few layers and blocks that every topology is built of."""

import functools
import math
from collections.abc import Callable

import keras
from keras import layers, ops

from mtl_keras import backend
from mtl_keras.initializers import TorchUniform

# What torchvision's networks use (Keras' own defaults are 1e-3 and 0.99). Keras' momentum 0.9 is PyTorch's 0.1.
BATCH_NORM_EPSILON = 1e-5
BATCH_NORM_MOMENTUM = 0.9


@keras.saving.register_keras_serializable("mtl_keras")
class Block(keras.Model):
    """A named part of a model; its weights' paths begin with its name, after loading too."""

    @classmethod
    def from_config(cls, config, custom_objects=None):
        with keras.name_scope(config["name"]):
            return super().from_config(config, custom_objects)


def block(function: Callable) -> Callable:
    """Turns a function of tensors into one named part of a model.

    The part is a functional sub-model: summaries show it as one row, and its weights carry its name. The decorated
    function takes one more keyword, `name`.
    """

    @functools.wraps(function)
    def build(*tensors, name: str, **options):
        inputs = [keras.Input(tensor.shape[1:], dtype=tensor.dtype) for tensor in tensors]
        with keras.name_scope(name):
            outputs = function(*inputs, **options)
        part = Block(inputs[0] if len(inputs) == 1 else inputs, outputs, name=name)
        return part(tensors[0] if len(tensors) == 1 else list(tensors))

    return build


def conv_bn_relu(x, filters: int, kernel_size: int = 1, *, dilation_rate: int = 1, name: str):
    """A convolution without bias, batch normalisation and ReLU, as most convolutions of the heads have them."""
    x = Conv2D(
        filters,
        kernel_size,
        padding="same",
        dilation_rate=dilation_rate,
        use_bias=False,
        kernel_initializer=TorchUniform(x.shape[-1] * kernel_size**2),
        name=f"{name}_conv",
    )(x)
    return bn_relu(x, name=name)


def bn_relu(x, *, name: str):
    """Batch normalisation and ReLU, as they follow most convolutions of the heads."""
    return layers.ReLU(name=f"{name}_relu")(batch_norm(x, name=f"{name}_bn"))


def batch_norm(x, *, name: str):
    """Batch normalisation over all but the channels, with torchvision's epsilon and momentum."""
    return BatchNormalization(momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, name=name)(x)


@keras.saving.register_keras_serializable("mtl_keras")
class Conv2D(layers.Conv2D):
    """Keras' own, by the backend's own kernel where that saves copies, and without taps that see padding alone."""

    def convolution_op(self, inputs, kernel):
        if self.groups == 1 and self.data_format == "channels_last":
            above, left = self.idle_taps(inputs.shape[1:3], kernel.shape)
            if above or left:
                rows, columns, *_ = kernel.shape
                kernel = ops.convert_to_tensor(kernel)[above : rows - above, left : columns - left]
            options = {"strides": self.strides, "padding": self.padding, "dilation_rate": self.dilation_rate}
            outputs = backend.convolve(inputs, kernel, **options)
            if outputs is not None:
                return outputs
        return super().convolution_op(inputs, kernel)

    def idle_taps(self, size, kernel_shape) -> list[int]:
        """How many of a kernel's outer rows, above and below, and columns, on either side, never reach into the input.

        Of 8×16 features, which a 128×256 image has, an ASPP's rate of 9 needs one row in three; where the size is free,
        all.
        """
        if self.padding != "same" or self.strides != (1, 1):
            return [0, 0]
        return [_idle(*side) for side in zip(kernel_shape[:2], size, self.dilation_rate, strict=True)]

    def multiply_adds(self, height: int, width: int) -> int:
        """What is computed for an output of that size; by definition, it is each weight times each of its pixels."""
        idle = self.idle_taps((height, width), self.kernel.shape)
        taps = math.prod(side - 2 * left_out for side, left_out in zip(self.kernel_size, idle, strict=True))
        return taps * math.prod(self.kernel.shape[2:]) * height * width


def _idle(taps, side, rate) -> int:
    """How many taps at either end never reach into a side of that length."""
    # A free side is None, and to some exporters a symbol.
    return max(0, taps // 2 - (side - 1) // rate) if taps % 2 and isinstance(side, int) else 0


@keras.saving.register_keras_serializable("mtl_keras")
class MaxPooling2D(layers.MaxPooling2D):
    """Keras' own, by the backend's own kernel where that saves copies."""

    def call(self, inputs):
        if self.padding == "valid" and self.data_format == "channels_last":
            outputs = backend.max_pool(inputs, pool_size=self.pool_size, strides=self.strides)
            if outputs is not None:
                return outputs
        return super().call(inputs)


@keras.saving.register_keras_serializable("mtl_keras")
class BatchNormalization(layers.BatchNormalization):
    """Keras' own, by a single kernel where the backend has one; Keras itself takes several passes over its input."""

    def call(self, inputs, training=None, mask=None):
        plain = mask is None and not (self.synchronized or self.renorm)
        if plain and self.scale and self.center and self.axis in (-1, 3):
            statistics_dtype = keras.backend.result_type(inputs.dtype, "float32")
            gamma, beta = (ops.cast(weight, statistics_dtype) for weight in (self.gamma, self.beta))
            moving, options = (self.moving_mean, self.moving_variance), {"epsilon": self.epsilon}
            if training and self.trainable:
                if math.prod(side or 2 for side in inputs.shape[:-1]) == 1:
                    raise ValueError(
                        f"{self.path}: batch normalisation over a single value; train on batches of 2 or more, or "
                        "build the model with aspp=False"
                    )
                outputs = backend.normalize_batch(inputs, gamma, beta, moving, momentum=self.momentum, **options)
            else:
                outputs = backend.normalize(inputs, gamma, beta, moving, **options)
            if outputs is not None:
                return ops.cast(outputs, self.compute_dtype)
        return super().call(inputs, training=training, mask=mask)


@keras.saving.register_keras_serializable("mtl_keras")
class PixelNormalization(layers.Layer):
    """Takes RGB 0–255, or other channels, to the mean and deviation that the encoder's weights were trained with.

    Args:
        mean: a mean for each channel, on the 0–255 scale.
        std: a standard deviation for each channel, on the 0–255 scale.
        output_stride: what height and width must be a multiple of.

    Input and output are (batch, height, width, channels); the output has the layer's compute dtype. Raises `ValueError`
    for a height or width that is not a multiple of the output stride, where the size is known.
    """

    def __init__(self, mean, std, output_stride: int, **kwargs):
        # Inputs stay as they come: half precision would round the raw values 0–255 before they are centred.
        super().__init__(autocast=False, **kwargs)
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.output_stride = output_stride

    def call(self, images):
        check_images(images.shape, self.output_stride, len(self.mean))
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        scale = ops.convert_to_tensor([1.0 / std for std in self.std], dtype=dtype)
        offset = ops.convert_to_tensor([-m / s for m, s in zip(self.mean, self.std, strict=True)], dtype=dtype)
        return ops.cast(ops.cast(images, dtype) * scale + offset, self.compute_dtype)

    def compute_output_spec(self, images):
        return keras.KerasTensor(images.shape, dtype=self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "mean": self.mean, "std": self.std, "output_stride": self.output_stride}


def check_images(shape, multiple: int, channels: int = 3) -> None:
    """Raises `ValueError` for images of another number of channels, or of a known size that is no multiple.

    The message names the next size that fits.
    """
    if shape[3] != channels:
        raise ValueError(f"the images are {tuple(shape)}, but this model takes (batch, height, width, {channels})")
    size = shape[1:3]
    if all(side is None or side % multiple == 0 for side in size):
        return
    height, width = (None if side is None else -(-side // multiple) * multiple for side in size)
    raise ValueError(
        f"the image is {size[0]}x{size[1]} (height x width), but this model needs multiples of {multiple}: "
        f"pad it to {height}x{width}, or use predict_images, which pads and crops by itself"
    )


@keras.saving.register_keras_serializable("mtl_keras")
class SpreadLike(layers.Layer):
    """Spreads a (batch, 1, 1, channels) map over the height and width of another."""

    def call(self, pooled, like):
        return pooled + ops.zeros_like(like[..., :1])

    def compute_output_spec(self, pooled, like):
        return keras.KerasTensor((*like.shape[:-1], pooled.shape[-1]), dtype=self.compute_dtype)
