"""Single kernels for what Keras' operations take many passes over memory for, where a backend has them.

XLA fuses such passes by itself, so JAX needs none. What has no kernel for its case gets None or False, and the caller
does it by Keras' operations. Results are the same but for rounding.
"""

import importlib
from typing import Any

import keras


def normalize_batch(x: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any] | None:
    """Batch normalisation in training: the output, and the batch's mean and (biased) variance a channel.

    Args:
        x: (batch, height, width, channels), float32.
        gamma: scale, (channels,).
        beta: offset, (channels,).
        epsilon: added to the variance.

    Returns:
        None where the backend has no kernel for it.
    """
    if keras.backend.standardize_dtype(x.dtype) != "float32" or len(x.shape) != 4:
        return None
    kernels = {"tensorflow": _tensorflow_normalize, "torch": _torch_normalize}
    kernel = kernels.get(keras.backend.backend())
    return None if kernel is None else kernel(x, gamma, beta, epsilon)


def _tensorflow_normalize(x, gamma, beta, epsilon):
    tf = importlib.import_module("tensorflow")
    empty = tf.zeros([0])
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gamma, offset=beta, mean=empty, variance=empty, epsilon=epsilon, exponential_avg_factor=1.0
    )
    # It is told with Bessel's correction.
    count = tf.cast(tf.size(x) / tf.size(gamma), tf.float32)
    return y, mean, variance * (tf.maximum(count - 1, 1) / count)


def _torch_normalize(x, gamma, beta, epsilon):
    torch = importlib.import_module("torch")
    count = x.numel() // x.shape[-1]
    if count < 2:
        return None
    mean, variance = torch.zeros_like(gamma), torch.zeros_like(gamma)
    # With momentum 1 the running statistics become the batch's, the variance with Bessel's correction.
    y = torch.batch_norm(x.permute(0, 3, 1, 2), gamma, beta, mean, variance, True, 1.0, epsilon, False)
    return y.permute(0, 2, 3, 1), mean, variance * ((count - 1) / count)


def adam_step(
    variable: Any,
    gradient: Any,
    moments: tuple[Any, Any],
    *,
    rate: Any,
    step: Any,
    betas: tuple[float, float],
    epsilon: float,
    decay: float,
) -> bool:
    """A step of PyTorch's Adam in a single pass over a variable and its moments.

    Args:
        variable: the Keras variable that is trained, float32.
        gradient: of the same shape.
        moments: the Keras variables of the running mean and mean square.
        rate: learning rate, a scalar tensor.
        step: how many steps the moments have moved with this one, a float32 scalar tensor.
        betas: their decays.
        epsilon: added after the bias correction.
        decay: coupled weight decay.

    Returns:
        False, and nothing has changed, where the backend has no kernel for it.
    """
    # TensorFlow's kernel takes 1 − 0.999 of float32 numbers, and so is 2e-5 away from PyTorch's Adam.
    if keras.backend.backend() != "torch" or variable.dtype != "float32":
        return False
    torch = importlib.import_module("torch")
    value = variable.value.data
    # The kernel walks through memory, so all must lie alike in it.
    for moment in moments:
        if moment.value.stride() != value.stride():
            moment.value.data = torch.empty_like(value).copy_(moment.value)
    if gradient.stride() != value.stride():
        gradient = torch.empty_like(value).copy_(gradient)
    importlib.import_module("torch.optim.adam").adam(
        [value],
        [gradient],
        *([moment.value.data] for moment in moments),
        [],
        # It counts the step itself.
        [step - 1],
        fused=True,
        amsgrad=False,
        beta1=betas[0],
        beta2=betas[1],
        lr=rate,
        weight_decay=decay,
        eps=epsilon,
        maximize=False,
    )
    return True


def convolve(x: Any, kernel: Any, *, strides: Any, padding: str, dilation_rate: Any) -> Any | None:
    """A convolution without bias, (batch, height, width, channels).

    Keras' own under PyTorch copies its input to channels first and back again.

    Returns:
        None where the backend has no kernel that fits: Keras' is as good, or "same" pads unevenly.
    """
    if keras.backend.backend() != "torch":
        return None
    kernel = keras.ops.convert_to_tensor(kernel)
    sides = kernel.shape[:2]
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


def upsample_bilinear(x: Any, factor: int) -> Any | None:
    """(batch, height, width, channels) upsampled by a whole factor, with half-pixel centres and repeated edges.

    Returns:
        None where the backend has no kernel that fits.
    """
    if keras.backend.backend() != "torch":
        return None
    functional = importlib.import_module("torch.nn.functional")
    channels_first = x.permute(0, 3, 1, 2)
    y = functional.interpolate(channels_first, scale_factor=factor, mode="bilinear", align_corners=False)
    return y.permute(0, 2, 3, 1)
