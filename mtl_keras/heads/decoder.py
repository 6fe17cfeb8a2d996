"""DeepLabV3+ decoder: deep features meet those at 1/4 scale.

Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation",
https://arxiv.org/abs/1802.02611; report, section 3.
"""

from mtl_keras.initializers import TorchUniform
from mtl_keras.layers import Conv2D, block, bn_relu, conv_bn_relu
from mtl_keras.upsampling import BilinearUpsampling, UpsamplingConv2D

FILTERS = 256
SKIP_FILTERS = 48


@block
def decoder(deep, shallow, *, scale: int):
    """Features at 1/4 scale from deep and shallow ones, as far as the last convolution.

    Args:
        deep: (batch, h, w, 256), from the ASPP.
        shallow: (batch, scale·h, scale·w, channels), the encoder's features at 1/4 scale.
        scale: how many times larger the shallow map is.

    Returns:
        (batch, scale·h, scale·w, 256).
    """
    shallow = conv_bn_relu(shallow, SKIP_FILTERS, name="skip")
    uniform = TorchUniform((deep.shape[-1] + SKIP_FILTERS) * 9)
    refine1 = UpsamplingConv2D(FILTERS, 3, scale=scale, use_bias=False, kernel_initializer=uniform, name="refine1_conv")
    x = bn_relu(refine1([deep, shallow]), name="refine1")
    return conv_bn_relu(x, FILTERS, 3, name="refine2")


@block
def refine(x):
    """The decoder without a skip connection, at its input's scale: (batch, h, w, channels) → (batch, h, w, 256)."""
    x = conv_bn_relu(x, FILTERS, 3, name="refine1")
    return conv_bn_relu(x, FILTERS, 3, name="refine2")


@block
def predictor(x, *, channels: int):
    """Predictions at the image's size, float32 under every precision: (batch, h, w, c) → (batch, 4h, 4w, channels).

    The last 1×1 convolution has a bias and no activation; what it gives is upsampled bilinearly.
    """
    uniform = TorchUniform(x.shape[-1])
    x = Conv2D(channels, 1, kernel_initializer=uniform, bias_initializer=uniform, dtype="float32", name="predict")(x)
    return BilinearUpsampling(4, dtype="float32", name="upsample")(x)
