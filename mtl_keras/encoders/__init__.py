"""Encoders: ResNets in torchvision's layout, with the strides of their last stages traded for dilation."""

from mtl_keras.encoders.resnet import VARIANTS, output_stride, resnet

__all__ = ["VARIANTS", "output_stride", "resnet"]
