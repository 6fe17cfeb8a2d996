"""Atrous spatial pyramid pooling.

Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", https://arxiv.org/abs/1706.05587;
report, section 3.
"""

from collections.abc import Sequence

from keras import layers

from mtl_keras.layers import SpreadLike, block, conv_bn_relu

FILTERS = 256


@block
def aspp(x, *, dilation_rates: Sequence[int] = (3, 6, 9)):
    """Context at several scales: (batch, h, w, channels) → (batch, h, w, 256).

    Args:
        x: the encoder's deepest features.
        dilation_rates: of the 3×3 branches, one each, in pixels of `x`.
    """
    branches = [conv_bn_relu(x, FILTERS, name="branch0")]
    for index, rate in enumerate(dilation_rates, start=1):
        branches.append(conv_bn_relu(x, FILTERS, 3, dilation_rate=rate, name=f"branch{index}"))
    pooled = layers.GlobalAveragePooling2D(keepdims=True, name="pool")(x)
    pooled = conv_bn_relu(pooled, FILTERS, name="pooled")
    branches.append(SpreadLike(name="spread")(pooled, x))
    return conv_bn_relu(layers.Concatenate(name="concatenate")(branches), FILTERS, name="project")


@block
def projection(x):
    """What stands in the ASPP's place when it is switched off: one 1×1 convolution to 256 channels."""
    return conv_bn_relu(x, FILTERS, name="project")
