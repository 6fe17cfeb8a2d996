"""ResNet in torchvision's layout, with `replace_stride_with_dilation`.

Layer names are torchvision's with "_" for ".", so that `layer1_0_conv1` takes its weights from `layer1.0.conv1`.

He et al., "Deep Residual Learning for Image Recognition", https://arxiv.org/abs/1512.03385; report, section 2 (b).
"""

from typing import NamedTuple

from keras import layers

from mtl_keras.errors import UserError
from mtl_keras.initializers import HeNormalFanOut
from mtl_keras.layers import Conv2D, MaxPooling2D, batch_norm, block


class Variant(NamedTuple):
    bottleneck: bool
    blocks: tuple[int, ...]


VARIANTS = {
    "resnet18": Variant(bottleneck=False, blocks=(2, 2, 2, 2)),
    "resnet34": Variant(bottleneck=False, blocks=(3, 4, 6, 3)),
    "resnet50": Variant(bottleneck=True, blocks=(3, 4, 6, 3)),
    "resnet101": Variant(bottleneck=True, blocks=(3, 4, 23, 3)),
}

Dilation = tuple[bool, bool, bool]


def output_stride(dilation: Dilation) -> int:
    """How many input pixels one pixel of the deepest features stands for: 32, 16, 8 or 4."""
    return 32 // 2 ** sum(dilation)


@block
def resnet(x, *, variant: str = "resnet34", dilation: Dilation = (False, False, False)):
    """Features of a normalised image at four depths.

    Args:
        x: (batch, height, width, 3), normalised.
        variant: a key of `VARIANTS`.
        dilation: for layer2, layer3 and layer4, whether its stride is replaced with dilation. The weights are the
            same under any dilation.

    Returns:
        A dict with `layer1` (stride 4), `layer2`, `layer3` and `layer4`: (batch, height/s, width/s, channels).
    """
    if variant not in VARIANTS:
        raise UserError(f"encoder: '{variant}' is unknown; use one of {', '.join(VARIANTS)}")
    bottleneck, block_counts = VARIANTS[variant]
    residual_block = _bottleneck_block if bottleneck else _basic_block
    x = _conv(x, 64, 7, strides=2, name="conv1")
    x = layers.ReLU(name="relu")(batch_norm(x, name="bn1"))
    # After a ReLU a border of zeros never wins a maximum, so it equals torch's border of minus infinity.
    x = layers.ZeroPadding2D(1, name="maxpool_pad")(x)
    x = MaxPooling2D(3, strides=2, name="maxpool")(x)
    features = {}
    rate = 1
    for stage, (count, dilate) in enumerate(zip(block_counts, (False, *dilation), strict=True), start=1):
        strides = 1 if stage == 1 or dilate else 2
        previous_rate, rate = rate, rate * 2 if dilate else rate
        for index in range(count):
            first = index == 0
            x = residual_block(
                x,
                filters=64 * 2 ** (stage - 1),
                strides=strides if first else 1,
                dilation_rate=_block_rate(first, bottleneck, dilate, previous_rate, rate),
                name=f"layer{stage}_{index}",
            )
        features[f"layer{stage}"] = x
    return features


def _block_rate(first: bool, bottleneck: bool, dilate: bool, previous_rate: int, rate: int) -> int:
    """Torchvision's first bottleneck of a stage keeps the rate before it; a first basic block is dilated by 2."""
    if not first:
        return rate
    if bottleneck:
        return previous_rate
    return 2 if dilate else rate


def _basic_block(x, *, filters: int, strides: int, dilation_rate: int, name: str):
    """Two 3×3 convolutions; only the second is dilated."""
    shortcut = _shortcut(x, filters, strides, name=name)
    x = _conv(x, filters, 3, strides=strides, name=f"{name}_conv1")
    x = layers.ReLU(name=f"{name}_relu1")(batch_norm(x, name=f"{name}_bn1"))
    x = _conv(x, filters, 3, dilation_rate=dilation_rate, name=f"{name}_conv2")
    x = layers.Add(name=f"{name}_add")([batch_norm(x, name=f"{name}_bn2"), shortcut])
    return layers.ReLU(name=f"{name}_relu2")(x)


def _bottleneck_block(x, *, filters: int, strides: int, dilation_rate: int, name: str):
    """1×1, 3×3 and 1×1 convolutions; stride and dilation are the 3×3's, as in torchvision."""
    shortcut = _shortcut(x, 4 * filters, strides, name=name)
    x = _conv(x, filters, 1, name=f"{name}_conv1")
    x = layers.ReLU(name=f"{name}_relu1")(batch_norm(x, name=f"{name}_bn1"))
    x = _conv(x, filters, 3, strides=strides, dilation_rate=dilation_rate, name=f"{name}_conv2")
    x = layers.ReLU(name=f"{name}_relu2")(batch_norm(x, name=f"{name}_bn2"))
    x = _conv(x, 4 * filters, 1, name=f"{name}_conv3")
    x = layers.Add(name=f"{name}_add")([batch_norm(x, name=f"{name}_bn3"), shortcut])
    return layers.ReLU(name=f"{name}_relu3")(x)


def _shortcut(x, filters: int, strides: int, *, name: str):
    if strides == 1 and x.shape[-1] == filters:
        return x
    x = _conv(x, filters, 1, strides=strides, name=f"{name}_downsample_0")
    return batch_norm(x, name=f"{name}_downsample_1")


def _conv(x, filters: int, kernel_size: int, *, strides: int = 1, dilation_rate: int = 1, name: str):
    """A convolution without bias, padded as torch pads: the same on both sides, whatever the stride."""
    padding = "same"
    if strides > 1 and kernel_size > 1:
        x = layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
        padding = "valid"
    return Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding=padding,
        dilation_rate=dilation_rate,
        use_bias=False,
        kernel_initializer=HeNormalFanOut(),
        name=name,
    )(x)
