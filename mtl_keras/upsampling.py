"""Bilinear upsampling by a whole factor, alone and before a convolution."""

import keras
from keras import layers, ops

from mtl_keras import backend
from mtl_keras.layers import Conv2D


@keras.saving.register_keras_serializable("mtl_keras")
class BilinearUpsampling(layers.Layer):
    """Upsamples by a whole factor, bilinear with half-pixel centres and repeated edges.

    Equals `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`. Where the backend has no kernel for
    it, an output pixel is a weighted sum of two shifted copies of the input along each axis; the copies are stacked and
    reshaped, so the height and width may stay free in an exported graph, which `keras.layers.UpSampling2D` does not
    allow.

    Input (batch, height, width, channels); output (batch, factor·height, factor·width, channels).
    """

    def __init__(self, factor: int, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return _upsample(x, self.factor)

    def compute_output_spec(self, x):
        batch, height, width, channels = x.shape
        sides = (None if side is None else side * self.factor for side in (height, width))
        return keras.KerasTensor((batch, *sides, channels), dtype=self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


def _upsample(x, factor: int):
    upsampled = backend.upsample_bilinear(x, factor)
    return _upsample_axis(_upsample_axis(x, factor, axis=1), factor, axis=2) if upsampled is None else upsampled


def _upsample_axis(x, factor: int, *, axis: int):
    before, after = _shifted(x, axis)
    phases = []
    for phase in range(factor):
        # Where this output pixel lies between the centres of two input pixels.
        position = (phase + 0.5) / factor - 0.5
        neighbour, weight = (before, -position) if position < 0 else (after, position)
        phases.append(x if weight == 0 else x * (1.0 - weight) + neighbour * weight)
    stacked = ops.stack(phases, axis=axis + 1)
    sides = list(_shape(x))
    sides[axis] = sides[axis] * factor
    # With the batch's size in it, LiteRT would take no other batch than the first.
    return ops.reshape(stacked, (-1, *sides[1:]))


def _shape(x) -> tuple:
    """The sides of a tensor: numbers where they are known, else what the graph will find."""
    return tuple(size if known is None else known for size, known in zip(ops.shape(x), x.shape, strict=True))


def _shifted(x, axis: int):
    """The input moved by one pixel along an axis in either direction, the edge repeated."""
    if axis == 1:
        first, last, head, tail = x[:, :1], x[:, -1:], x[:, :-1], x[:, 1:]
    else:
        first, last, head, tail = x[:, :, :1], x[:, :, -1:], x[:, :, :-1], x[:, :, 1:]
    return ops.concatenate([first, head], axis=axis), ops.concatenate([tail, last], axis=axis)


@keras.saving.register_keras_serializable("mtl_keras")
class UpsamplingConv2D(Conv2D):
    """A convolution of deep features, upsampled bilinearly, and shallow ones beside them.

    Equals `Conv2D` of a concatenation of `BilinearUpsampling(scale)(deep)` and `shallow`, with the same kernel. But
    upsampling is linear and a convolution is a sum over its taps, so the two change places: each tap is multiplied
    with the deep features at their own size, a scale²-th of the work, and what comes out is upsampled, shifted and
    added up, which along each axis is one product with a narrow matrix.

    Inputs (batch, h, w, channels) and (batch, scale·h, scale·w, channels); output (batch, scale·h, scale·w, filters).
    The kernel is odd and square, the padding zero ("same"), and there are no strides, dilation or groups.

    Raises:
        ValueError: any of these is asked for otherwise.
    """

    # Whether it is computed as it is defined: int8 would round the coordinates that the matrices are computed from.
    plain = False

    def __init__(self, filters: int, kernel_size: int, *, scale: int, **kwargs):
        super().__init__(filters, kernel_size, **{"padding": "same", **kwargs})
        asked = self.padding, self.strides, self.dilation_rate, self.groups, self.data_format
        height, width = self.kernel_size
        if asked != ("same", (1, 1), (1, 1), 1, "channels_last") or height != width or height % 2 == 0:
            raise ValueError(
                "UpsamplingConv2D: needs an odd, square kernel, padding 'same', channels last, and no strides, "
                "dilation or groups"
            )
        self.scale = scale
        self.input_spec = None

    def build(self, input_shape):
        deep, shallow = input_shape
        self.deep_channels = deep[-1]
        super().build((*shallow[:-1], deep[-1] + shallow[-1]))
        # A convolution's own speaks of a single input.
        self.input_spec = None

    def call(self, inputs):
        deep, shallow = inputs
        kernel = ops.convert_to_tensor(self.kernel)
        if self.plain:
            x = self.convolution_op(ops.concatenate([_upsample(deep, self.scale), shallow], axis=-1), kernel)
        else:
            of_deep, of_shallow = kernel[:, :, : self.deep_channels], kernel[:, :, self.deep_channels :]
            x = self._upsampled(deep, of_deep) + self.convolution_op(shallow, of_shallow)
        return self.activation(x + self.bias if self.use_bias else x)

    def _upsampled(self, deep, kernel):
        _, height, width, channels = _shape(deep)
        side, filters = self.kernel_size[0], self.filters
        # Each pixel by each tap: (batch, h, w, side·side·filters), rows of the kernel first.
        taps = ops.reshape(ops.transpose(kernel, (2, 0, 1, 3)), (1, 1, channels, side * side * filters))
        x = ops.reshape(self.convolution_op(deep, taps), (-1, height, width, side, side * filters))
        # Down: (batch, h·side, …) becomes (batch, scale·h, …).
        x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4)), (-1, height * side, width * side * filters))
        x = backend.interpolate(self._interpolation(height, x.dtype), x)
        # Across: (batch·scale·h, w·side, filters) becomes (batch·scale·h, scale·w, filters).
        x = backend.interpolate(self._interpolation(width, x.dtype), ops.reshape(x, (-1, width * side, filters)))
        return ops.reshape(x, (-1, self.scale * height, self.scale * width, filters))

    def _interpolation(self, size, dtype):
        """The matrix of one axis, (scale·size, size·taps): what an upsampled place takes of each pixel by each tap."""
        side = self.kernel_size[0]
        offsets = ops.arange(side, dtype="float32") - side // 2
        places = ops.arange(self.scale * size, dtype="float32")[:, None, None] + offsets
        centres = ops.clip((places + 0.5) / self.scale - 0.5, 0.0, ops.cast(size - 1, "float32"))
        weights = ops.relu(1.0 - ops.abs(centres - ops.arange(size, dtype="float32")[:, None]))
        inside = ops.logical_and(places >= 0, places < ops.cast(self.scale * size, "float32"))
        matrix = ops.where(inside, weights, 0.0)
        return ops.cast(ops.reshape(matrix, (self.scale * size, size * side)), dtype)

    def multiply_adds(self, height: int, width: int) -> int:
        side, _, channels, filters = self.kernel.shape
        low, narrow = height // self.scale, width // self.scale
        of_deep = side**2 * self.deep_channels * filters * low * narrow
        of_shallow = side**2 * (channels - self.deep_channels) * filters * height * width
        interpolation = side * low * height * narrow * side * filters + side * narrow * width * height * filters
        return of_deep + interpolation + of_shallow

    def compute_output_spec(self, inputs):
        _, shallow = inputs
        return keras.KerasTensor((*shallow.shape[:-1], self.filters), dtype=self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}
