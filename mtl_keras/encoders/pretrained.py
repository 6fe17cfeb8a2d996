"""Weights of a ResNet in torchvision's names and layout, and how they map to an encoder.

The same weights serve every dilation, and every tensor of the encoder is filled or the load is refused: nothing is
ever left at its random initial value without a word.
"""

import dataclasses
import logging
import re
from collections.abc import Mapping

import keras
import numpy as np

from mtl_keras.encoders.resnet import VARIANTS, Variant
from mtl_keras.errors import UserError

# What the images of ImageNet's weights are normalised by, on the 0–255 scale (torchvision, timm and keras-hub agree).
PIXEL_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
PIXEL_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)

_TORCH_NAMES = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_OF_ENCODER = re.compile(r"(conv1|bn1|layer\d+)\.")

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class EncoderWeights:
    """Tensors as torchvision names and lays them out, convolutions as (out, in, height, width).

    Args:
        tensors: by name, such as `layer1.0.conv1.weight`.
        source: where they are from, for messages.
        unused: names of the source's tensors that are no part of the encoder, such as the classifier's.
    """

    tensors: Mapping[str, np.ndarray]
    source: str
    unused: tuple[str, ...] = ()


def select_encoder(tensors: Mapping[str, np.ndarray], source: str) -> EncoderWeights:
    """Finds the encoder among the tensors of a whole network, under whatever prefix it has there.

    Raises:
        UserError: if there is no ResNet with a 7×7 stem among them.
    """
    tensors = {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}
    prefixes = (name.removesuffix("conv1.weight") for name in tensors if name.endswith("conv1.weight"))
    found = sorted((p for p in prefixes if f"{p}layer1.0.conv1.weight" in tensors), key=len)
    if not found:
        stem = "conv1.0.weight" if any(name.endswith("conv1.0.weight") for name in tensors) else None
        reason = "has a deep stem (conv1.0)" if stem else "has no conv1.weight beside a layer1.0.conv1.weight"
        raise UserError(f"{source}: {reason}, so it is no plain ResNet; give weights in torchvision's layout")
    prefix = found[0]
    inside = {name.removeprefix(prefix): name for name in tensors if name.startswith(prefix)}
    used = {name: tensors[whole] for name, whole in inside.items() if _OF_ENCODER.match(name)}
    unused = sorted(set(tensors) - {inside[name] for name in used})
    return EncoderWeights(used, source, tuple(unused))


def load_weights(encoder: keras.Model, weights: EncoderWeights) -> None:
    """Fills every variable of an encoder, whatever its dilation, and logs which tensors were not used.

    Args:
        encoder: the sub-model `encoder` of a model, or any other that `mtl_keras.encoders.resnet` made.
        weights: what `read_weights` or `select_encoder` gave.

    Raises:
        UserError: if they are of another variant, a tensor is missing or left over, a shape differs, or a value is
            not finite. The encoder is then as it was.
    """
    variables = torchvision_variables(encoder)
    wanted, held = _name_of(variables), _name_of(weights.tensors)
    if wanted != held:
        raise UserError(f"{weights.source}: holds a {held}, not a {wanted}; give weights of a {wanted}")
    if missing := sorted(set(variables) - set(weights.tensors)):
        raise UserError(f"{weights.source}: lacks '{missing[0]}'; give a whole {wanted} in torchvision's layout")
    if foreign := sorted(set(weights.tensors) - set(variables)):
        raise UserError(f"{weights.source}: '{foreign[0]}' is of no plain {wanted}; give one in torchvision's layout")
    arrays = {name: keras_layout(weights.tensors[name]) for name in variables}
    for name, variable in variables.items():
        _check(name, arrays[name], tuple(variable.shape), weights)
    for name, variable in variables.items():
        variable.assign(arrays[name])
    logger.info("encoder: %s with weights of %s; not used: %s", wanted, weights.source, _in_words(weights.unused))


def freeze_batch_norm(encoder: keras.Model) -> None:
    """Makes an encoder's batch norms use their moving statistics in training too, and keeps all of them as they are.

    To be called before `compile`. What batches of a few crops would make of the statistics is worse than what they are.
    """
    for layer in encoder.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def torchvision_variables(encoder: keras.Model) -> dict[str, keras.Variable]:
    """An encoder's variables by their names in torchvision."""
    return {
        from_keras_name(f"{layer.name}/{variable.name}"): variable
        for layer in encoder.layers
        for variable in layer.variables
    }


def torchvision_tensors(encoder: keras.Model) -> dict[str, np.ndarray]:
    """Copies of an encoder's weights in torchvision's names and layout."""
    variables = torchvision_variables(encoder).items()
    return {name: torchvision_layout(np.array(keras.ops.convert_to_numpy(value))) for name, value in variables}


def from_keras_name(path: str) -> str:
    """The name in torchvision of a variable's path: `layer1_0_conv1/kernel` is `layer1.0.conv1.weight`."""
    layer, _, variable = path.rpartition("/")
    return f"{layer.replace('_', '.')}.{_TORCH_NAMES[variable]}"


def torchvision_layout(value: np.ndarray) -> np.ndarray:
    """(height, width, in, out) as (out, in, height, width); all else as it is."""
    return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value


def keras_layout(value: np.ndarray) -> np.ndarray:
    """(out, in, height, width) as (height, width, in, out); all else as it is. Always float32."""
    value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
    return np.ascontiguousarray(value, dtype="float32")


def _name_of(tensors: Mapping) -> str:
    """The variant that tensors are of by their names, in words where it has no name."""
    stages = [{name.split(".")[1] for name in tensors if name.startswith(f"layer{stage}.")} for stage in range(1, 5)]
    variant = Variant("layer1.0.conv3.weight" in tensors, tuple(len(blocks) for blocks in stages))
    for name, known in VARIANTS.items():
        if known == variant:
            return name
    kind = "bottleneck" if variant.bottleneck else "basic"
    return f"ResNet of {'-'.join(map(str, variant.blocks))} {kind} blocks"


def _check(name: str, array: np.ndarray, shape: tuple[int, ...], weights: EncoderWeights) -> None:
    if array.shape != shape:
        wanted = torchvision_layout(np.empty(shape, "uint8")).shape
        held = weights.tensors[name].shape
        raise UserError(f"{weights.source}: '{name}' is {held}, but the encoder needs {wanted}; give a plain ResNet")
    if not np.isfinite(array).all() or (name.endswith("running_var") and (array < 0).any()):
        raise UserError(f"{weights.source}: '{name}' has values that no weights have; get the file again")


def _in_words(names: tuple[str, ...]) -> str:
    """Names of tensors; if they are many, how many there are of which parts of a network."""
    parts = sorted({re.split(r"[./]", name)[0] for name in names})
    return f"{len(names)} tensors of {', '.join(parts)}" if len(names) > 8 else ", ".join(names) or "none"
