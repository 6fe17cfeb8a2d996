"""The plain ResNets of keras-hub, under torchvision's names."""

import re

import keras
import numpy as np

from mtl_keras.encoders.pretrained import from_keras_name, torchvision_layout
from mtl_keras.errors import UserError

_BLOCK = re.compile(r"stack(\d)_block(\d+)_(\d)_(conv|bn)")
_PLAIN_BLOCKS = ("basic_block", "bottleneck_block")


def tensors(backbone: keras.Model, source: str) -> dict[str, np.ndarray]:
    """The weights of a `keras_hub.models.ResNetBackbone` in torchvision's names and layout.

    Its plain ResNets pad as torchvision does, stride in the 3×3 and have the same epsilon.

    Raises:
        UserError: for any other backbone, such as a ResNet with a deep stem (vd) or with pre-activation (v2).
    """
    kind = (
        getattr(backbone, "use_pre_activation", True),
        len(getattr(backbone, "input_conv_filters", ())),
        getattr(backbone, "block_type", None) in _PLAIN_BLOCKS,
    )
    if type(backbone).__name__ != "ResNetBackbone" or kind != (False, 1, True):
        raise UserError(f"{source}: is no plain ResNet, so its features would differ; give resnet_50_imagenet or alike")
    return {
        from_keras_name(f"{_torchvision_layer(layer.name)}/{variable.name}"): torchvision_layout(
            np.array(keras.ops.convert_to_numpy(variable))
        )
        for layer in backbone.layers
        for variable in layer.variables
    }


def _torchvision_layer(name: str) -> str:
    if name in ("conv1_conv", "conv1_bn"):
        return {"conv1_conv": "conv1", "conv1_bn": "bn1"}[name]
    match = _BLOCK.fullmatch(name)
    if match is None:
        raise ValueError(f"'{name}' is no layer of keras-hub's plain ResNets, as this version knows them")
    stack, block, index, kind = match.groups()
    part = f"{kind}{index}" if index != "0" else f"downsample.{int(kind == 'bn')}"
    return f"layer{int(stack) + 1}.{block}.{part}"
