"""Single kernels for what Keras' operations take many passes over memory for, where a backend has them.

What has no kernel for its case gets None or False, and the caller does it by Keras' operations. Results are the same
but for rounding.
"""

import functools
import importlib
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np


def _jax():
    """JAX' kernels, for which JAX must be installed."""
    return importlib.import_module("mtl_keras.backend.jax_kernels")


def normalize(x: Any, gamma: Any, beta: Any, moving: tuple[Any, Any], *, epsilon: float) -> Any | None:
    """Batch normalisation in prediction, by the moving mean and variance.

    Keras' own takes three passes over its input.

    Args:
        x: (batch, height, width, channels), float32 or of half precision, as the result then is.
        gamma: scale, (channels,), float32.
        beta: offset, (channels,), float32.
        moving: the Keras variables of the moving mean and variance, float32.
        epsilon: added to the variance.

    Returns:
        None where the backend has no kernel for it.
    """
    if not _fits(x, moving):
        return None
    mean, variance = (variable.value for variable in moving)
    if keras.backend.backend() == "tensorflow":
        fused = importlib.import_module("tensorflow").raw_ops.FusedBatchNormV3
        options = {"epsilon": epsilon, "is_training": False}
        return fused(x=x, scale=gamma, offset=beta, mean=mean, variance=variance, **options).y
    if keras.backend.backend() == "torch":
        torch = importlib.import_module("torch")
        cudnn = torch.backends.cudnn.enabled
        y = torch.batch_norm(x.permute(0, 3, 1, 2), gamma, beta, mean, variance, False, 0.0, epsilon, cudnn)
        return y.permute(0, 2, 3, 1)
    return None


def _fits(x, moving) -> bool:
    """Whether the kernels of batch normalisation take such an input."""
    of_x, *of_moving = (keras.backend.standardize_dtype(value.dtype) for value in (x, *moving))
    return of_x in ("float32", "bfloat16", "float16") and set(of_moving) == {"float32"} and len(x.shape) == 4


def normalize_batch(
    x: Any, gamma: Any, beta: Any, moving: tuple[Any, Any], *, momentum: float, epsilon: float
) -> Any | None:
    """Batch normalisation in training, by the batch's own mean and (biased) variance.

    Args:
        x: (batch, height, width, channels), float32 or of half precision, as the result then is.
        gamma: scale, (channels,), float32.
        beta: offset, (channels,), float32.
        moving: the Keras variables of the moving mean and variance, float32, which take in the batch's.
        momentum: what these keep of themselves.
        epsilon: added to the variance.

    Returns:
        None, and nothing has moved, where the backend has no kernel for it.
    """
    if not _fits(x, moving):
        return None
    kernels = {"tensorflow": _tensorflow_normalize, "jax": _jax_normalize, "torch": _torch_normalize}
    kernel = kernels.get(keras.backend.backend())
    return None if kernel is None else kernel(x, gamma, beta, moving, momentum, epsilon)


def _move(moving, values, momentum):
    for variable, value in zip(moving, values, strict=True):
        variable.assign(variable * momentum + value * (1.0 - momentum))


def _jax_normalize(x, gamma, beta, moving, momentum, epsilon):
    # One pixel is near the mean from the first step on. Where devices share the batch, only one has it, and all would
    # wait for it: they go by the moving mean, which comes near.
    shift = moving[0].value if keras.distribution.distribution() else _jax().first_pixel(x)
    y, mean, variance = _jax().batch_norm(epsilon)(x, gamma, beta, shift)
    _move(moving, (mean, variance), momentum)
    return y


def _tensorflow_normalize(x, gamma, beta, moving, momentum, epsilon):
    tf = importlib.import_module("tensorflow")
    empty = tf.zeros([0])
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gamma, offset=beta, mean=empty, variance=empty, epsilon=epsilon, exponential_avg_factor=1.0
    )
    # The kernel gives the unbiased variance; what moves is the biased one, as in Keras.
    count = tf.cast(tf.size(x) / tf.size(gamma), tf.float32)
    _move(moving, (mean, variance * (tf.maximum(count - 1, 1) / count)), momentum)
    return y


def _torch_normalize(x, gamma, beta, moving, momentum, epsilon):
    torch = importlib.import_module("torch")
    count = x.numel() // x.shape[-1]
    if count < 2:
        return None
    # The kernel moves variances with Bessel's correction, so ours are given to it as if they had it.
    correction = count / (count - 1)
    mean, variance = moving[0].value.clone(), moving[1].value * correction
    cudnn = torch.backends.cudnn.enabled
    y = torch.batch_norm(x.permute(0, 3, 1, 2), gamma, beta, mean, variance, True, 1.0 - momentum, epsilon, cudnn)
    moving[0].assign(mean)
    moving[1].assign(variance / correction)
    return y.permute(0, 2, 3, 1)


def in_order(gradients: Sequence[Any]) -> Sequence[Any]:
    """Gradients as an optimizer is to have them.

    cuDNN's gradient of a kernel has another order of axes. XLA would turn the kernel and its moments to that, and what
    becomes of them back, into new memory that is copied over the old.
    """
    return _jax().in_order(list(gradients)) if keras.backend.backend() == "jax" else gradients


def adam_step(
    variables: Sequence[Any],
    gradients: Sequence[Any],
    moments: Sequence[tuple[Any, Any]],
    *,
    rate: Any,
    step: Any,
    betas: tuple[float, float],
    epsilon: float,
    decay: float,
    decoupled: bool = False,
) -> bool:
    """A step of PyTorch's Adam in a single pass over each variable and its moments.

    Args:
        variables: the Keras variables that are trained, float32.
        gradients: of the same shapes.
        moments: for each, the Keras variables of the running mean and mean square.
        rate: learning rate, a scalar tensor.
        step: how many steps the moments have moved with this one, a float32 scalar tensor.
        betas: their decays.
        epsilon: added after the bias correction.
        decay: weight decay.
        decoupled: whether the decay is AdamW's.

    Returns:
        False, and nothing has changed, where the backend has no kernel for it.
    """
    kernels = {"tensorflow": _tensorflow_adam, "torch": _torch_adam}
    kernel = kernels.get(keras.backend.backend())
    if kernel is None or any(variable.dtype != "float32" for variable in variables):
        return False
    each = zip(variables, gradients, moments, strict=True)
    return kernel(each, rate, step, betas, epsilon, decay, decoupled)


def _torch_adam(each, rate, step, betas, epsilon, decay, decoupled):
    tensors = [_in_memory_order(variable.value.data, gradient, *pair) for variable, gradient, pair in each]
    importlib.import_module("torch.optim.adam").adam(
        *(list(column) for column in zip(*tensors, strict=True)),
        [],
        # It counts the steps itself, for each variable.
        list((step - 1).repeat(len(tensors)).unbind()),
        fused=True,
        amsgrad=False,
        beta1=betas[0],
        beta2=betas[1],
        lr=rate,
        weight_decay=decay,
        eps=epsilon,
        maximize=False,
        decoupled_weight_decay=decoupled,
    )
    return True


def _in_memory_order(value, gradient, *moments):
    """The four tensors of a variable, their axes in the order of its memory: the kernel would copy any other."""
    torch = importlib.import_module("torch")
    for moment in moments:
        if moment.value.stride() != value.stride():
            moment.value.data = torch.empty_like(value).copy_(moment.value)
    order = sorted(range(value.ndim), key=value.stride, reverse=True)
    parameter, mean, square = (tensor.permute(order) for tensor in (value, *(moment.value.data for moment in moments)))
    return parameter, gradient.permute(order).contiguous(), mean, square


def _tensorflow_adam(each, rate, step, betas, epsilon, decay, decoupled):
    tf = importlib.import_module("tensorflow")
    if tf.distribute.has_strategy():
        return False
    # The kernel takes 1 − 0.999 of float32 numbers, which has five digits, so that its mean squares are all too small
    # by one factor; the rate and epsilon are made to fit them. Of the bias it knows nothing, with powers of 0.
    grown = float(np.float32(1) - np.float32(betas[1])) / (1 - betas[1])
    mean_correction, square_correction = (-tf.math.expm1(step * math.log(beta)) if beta else 1.0 for beta in betas)
    scale = tf.sqrt(square_correction * grown)
    for variable, gradient, pair in each:
        mean, square = (moment.value for moment in pair)
        if decoupled:
            variable.assign_sub(rate * decay * variable.value)
        elif decay:
            gradient = gradient + decay * variable.value
        tf.raw_ops.ResourceApplyAdam(
            var=variable.value.handle,
            m=mean.handle,
            v=square.handle,
            beta1_power=0.0,
            beta2_power=0.0,
            lr=rate * scale / mean_correction,
            beta1=betas[0],
            beta2=betas[1],
            epsilon=epsilon * scale,
            grad=gradient,
        )
    return True


def convolve(x: Any, kernel: Any, *, strides: Any, padding: str, dilation_rate: Any) -> Any | None:
    """A convolution without bias, (batch, height, width, channels).

    Keras' own under PyTorch copies its input to channels first and back again, and under TensorFlow dilates by cutting
    the input into many small images, of which padding is a good part. Under JAX gradients are slow where it dilates.

    Returns:
        None where the backend has no kernel that fits: Keras' is as good, or "same" pads unevenly.
    """
    kernel = keras.ops.convert_to_tensor(kernel)
    sides = kernel.shape[:2]
    if keras.backend.backend() == "jax" and tuple(sides) == tuple(strides) == (1, 1) and x.dtype == "float32":
        return _jax().pointwise(x, kernel)
    if keras.backend.backend() == "jax":
        return _dilated(x, kernel, strides, padding, tuple(dilation_rate))
    if keras.backend.backend() == "tensorflow" and max(dilation_rate) > 1 and _dilates_gradients(x.dtype):
        conv2d = importlib.import_module("tensorflow").raw_ops.Conv2D
        options = {"strides": [1, *strides, 1], "dilations": [1, *dilation_rate, 1]}
        return conv2d(input=x, filter=kernel, padding=padding.upper(), **options)
    if keras.backend.backend() != "torch":
        return None
    uneven = any(side % 2 == 0 for side in sides) or (max(strides) > 1 and max(sides) > 1)
    if padding == "same" and uneven:
        return None
    pads = [rate * (side // 2) for rate, side in zip(dilation_rate, sides, strict=True)]
    functional = importlib.import_module("torch.nn.functional")
    y = functional.conv2d(
        x.permute(0, 3, 1, 2),
        kernel.permute(3, 2, 0, 1),
        stride=tuple(strides),
        padding=pads if padding == "same" else 0,
        dilation=tuple(dilation_rate),
    )
    return y.permute(0, 2, 3, 1)


def _dilated(x: Any, kernel: Any, strides: Any, padding: str, rate: tuple[int, int]) -> Any | None:
    """A dilated convolution by JAX; None for any other, and for an image whose size is not known."""
    fits = max(rate) > 1 == max(strides) and padding == "same" and all(side % 2 for side in kernel.shape[:2])
    if not fits or not all(isinstance(side, int) for side in x.shape[1:3]):
        return None
    return importlib.import_module("mtl_keras.backend.jax_dilated").dilated_convolution(rate)(x, kernel)


@functools.cache
def _dilates_gradients(dtype: Any) -> bool:
    """Whether TensorFlow has kernels for the gradients of dilated convolutions: oneDNN's on a CPU, and CUDA's."""
    tf = importlib.import_module("tensorflow")
    with tf.init_scope():
        x, kernel = tf.zeros([1, 3, 3, 1], dtype), tf.zeros([3, 3, 1, 1], dtype)
        options = {"strides": [1] * 4, "padding": "SAME", "dilations": [1, 2, 2, 1], "out_backprop": x}
        try:
            tf.raw_ops.Conv2DBackpropInput(input_sizes=x.shape, filter=kernel, **options)
            tf.raw_ops.Conv2DBackpropFilter(input=x, filter_sizes=kernel.shape, **options)
        except tf.errors.OpError:
            return False
    return True


def lay_out_kernels(model: keras.Model) -> None:
    """Has the kernels of convolutions lie in memory as the backend's convolutions want them; values stay.

    PyTorch's want (filters, height, width, channels), and would copy every kernel and its gradient in every step.
    """
    if keras.backend.backend() != "torch":
        return
    torch = importlib.import_module("torch")
    for variable in model.trainable_variables:
        if len(variable.shape) == 4:
            kernel = variable.value.data.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
            variable.value.data = kernel.permute(2, 3, 1, 0)


def max_pool(x: Any, *, pool_size: Any, strides: Any) -> Any | None:
    """The maxima of windows without padding, (batch, height, width, channels).

    Keras' own under PyTorch copies its input to channels first, and what comes after it gets that layout.

    Returns:
        None where the backend has no kernel that fits: Keras' is as good.
    """
    if keras.backend.backend() == "jax":
        return _jax().max_pool(tuple(pool_size), tuple(strides), x.shape[1:3])(x)
    if keras.backend.backend() != "torch" or x.is_meta:
        return None
    functional = importlib.import_module("torch.nn.functional")
    return functional.max_pool2d(x.permute(0, 3, 1, 2), tuple(pool_size), tuple(strides)).permute(0, 2, 3, 1)


def upsample_bilinear(x: Any, factor: int) -> Any | None:
    """(batch, height, width, channels) upsampled by a whole factor, with half-pixel centres and repeated edges.

    Returns:
        None where the backend has no kernel that fits.
    """
    if keras.backend.backend() == "jax":
        return _jax().upsample_bilinear(x, factor)
    if keras.backend.backend() != "torch":
        return None
    functional = importlib.import_module("torch.nn.functional")
    channels_first = x.permute(0, 3, 1, 2)
    y = functional.interpolate(channels_first, scale_factor=factor, mode="bilinear", align_corners=False)
    return y.permute(0, 2, 3, 1)


def count(values: Any, bins: int) -> Any:
    """How often each of 0 … bins − 1 is among values, (n,) int32 below `bins`: (bins,) int32.

    Keras' own under PyTorch has a GPU's host wait in between.
    """
    ones = keras.ops.ones_like(values)
    if keras.backend.backend() != "torch":
        return keras.ops.segment_sum(ones, values, num_segments=bins)
    return keras.ops.zeros(bins, dtype="int32").index_add_(0, values, ones)


def interpolate(matrix: Any, x: Any) -> Any:
    """The rows of each image weighted and summed: (m, n) by (batch, n, channels) to (batch, m, channels)."""
    if keras.backend.backend() == "jax":
        return _jax().interpolate(matrix, x)
    return keras.ops.matmul(matrix, x)
