"""Encoders: ResNets in torchvision's layout, with the strides of their last stages traded for dilation."""

from mtl_keras.encoders.pretrained import PIXEL_MEAN, PIXEL_STD, EncoderWeights, freeze_batch_norm, load_weights
from mtl_keras.encoders.resnet import VARIANTS, output_stride, resnet
from mtl_keras.encoders.sources import read_weights

__all__ = [
    "PIXEL_MEAN",
    "PIXEL_STD",
    "VARIANTS",
    "EncoderWeights",
    "freeze_batch_norm",
    "load_weights",
    "output_stride",
    "read_weights",
    "resnet",
]
