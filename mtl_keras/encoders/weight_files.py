"""Files of weights: safetensors, PyTorch's and Keras'.

Nothing here runs code of a file: safetensors hold arrays alone, a `.pth` is read with `weights_only`, a `.keras` in
safe mode.
"""

from pathlib import Path

import h5py
import keras
import numpy as np
import safetensors

from mtl_keras import backend
from mtl_keras.encoders.pretrained import (
    from_keras_name,
    torchvision_layout,
    torchvision_tensors,
    torchvision_variables,
)
from mtl_keras.encoders.resnet import resnet
from mtl_keras.errors import UserError, first_line
from mtl_keras.keras_files import load_keras_file

Tensors = dict[str, np.ndarray]


def read_file(path: Path, variant: str) -> Tensors:
    """All tensors of a file, those of an encoder under torchvision's names and in its layout.

    Args:
        path: a `.safetensors`, `.pth`, `.keras` or `.weights.h5` file of an encoder or of a whole model.
        variant: the encoder that they are for, a key of `VARIANTS`.

    Raises:
        UserError: for a file of another kind, or one that is damaged or needs code to load.
    """
    if path.name.endswith(".weights.h5"):
        return _read_weights_h5(path, variant)
    if path.suffix == ".keras":
        return _read_keras(path)
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if path.suffix in (".pth", ".pt", ".bin"):
        return backend.read_torch_tensors(path)
    raise UserError(f"{path}: '{path.suffix}' is no file of weights; give a .safetensors, .pth, .keras or .weights.h5")


def read_safetensors(path: Path) -> Tensors:
    """The tensors of a safetensors file, a checkpoint's under torchvision's names; raises `UserError` unless whole."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({first_line(error)}); get it again") from None
    except (TypeError, AttributeError) as error:
        # Types that NumPy has no name for.
        raise UserError(f"{path}: its numbers cannot be read ({first_line(error)}); save it as float32") from None
    for name, tensor in tensors.items():
        if tensor.dtype.kind != "f" and not name.endswith("num_batches_tracked"):
            raise UserError(f"{path}: '{name}' holds {tensor.dtype}, not floating-point weights; save it as float32")
    return _of_checkpoint(tensors)


def _of_checkpoint(arrays: Tensors) -> Tensors:
    """A checkpoint of this project, its encoder's tensors under torchvision's names."""
    stem = next((name for name in arrays if name.endswith("encoder/conv1/kernel")), None)
    if stem is None:
        return arrays
    prefix = stem.removesuffix("conv1/kernel")
    tensors = {}
    for name, value in arrays.items():
        if name.startswith(prefix):
            tensors[from_keras_name(name.removeprefix(prefix))] = torchvision_layout(value)
        else:
            tensors[name] = value
    return tensors


def _read_keras(path: Path) -> Tensors:
    model = load_keras_file(path)
    encoders = [layer for layer in model.layers if layer.name == "encoder"] or [model]
    try:
        return torchvision_tensors(encoders[0])
    except KeyError as error:
        raise UserError(f"{path}: has a variable {error}, which no plain ResNet has; give another file") from None


def _read_weights_h5(path: Path, variant: str) -> Tensors:
    """The weights of an encoder, or of a whole model, whose first nested part is its encoder.

    Such a file names layers by their class and place alone; the places are those of the encoder that it is read for.
    """
    encoder = _blank_encoder(variant)
    try:
        with h5py.File(path) as file:
            layers = file["layers"]
            layers = layers["block/layers"] if "block" in layers else layers
            convolutions = sum(name.startswith("conv2d") for name in layers)
            wanted = sum(isinstance(layer, keras.layers.Conv2D) for layer in encoder.layers)
            if convolutions != wanted:
                raise UserError(
                    f"{path}: holds {convolutions} convolutions, a {variant} has {wanted}; give weights of a {variant}"
                )
            values = _in_order(layers, encoder)
    except UserError:
        raise
    except (OSError, KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: not the weights of an encoder ({first_line(error)}); give a .keras file") from None
    return dict(zip(torchvision_variables(encoder), map(torchvision_layout, values), strict=True))


def _in_order(layers: h5py.Group, encoder: keras.Model) -> list[np.ndarray]:
    counts: dict[str, int] = {}
    values = []
    for layer in encoder.layers:
        kind = {"Conv2D": "conv2d", "BatchNormalization": "batch_normalization"}.get(type(layer).__name__)
        if kind:
            count = counts.setdefault(kind, 0)
            group = layers[f"{kind}_{count}" if count else kind]["vars"]
            values += [_array(group, str(index), variable) for index, variable in enumerate(layer.variables)]
            counts[kind] += 1
    return values


def _array(group: h5py.Group, name: str, variable: keras.Variable) -> np.ndarray:
    """A dataset that lies in the file itself and has the variable's shape, so that no other can be named or claimed."""
    dataset = group[name]
    within = isinstance(group.get(name, getlink=True), h5py.HardLink) and not (dataset.is_virtual or dataset.external)
    if not within or dataset.shape != tuple(variable.shape):
        raise KeyError(f"{dataset.name}: expected shape {tuple(variable.shape)}, in this file")
    return np.array(dataset)


def _blank_encoder(variant: str) -> keras.Model:
    image = keras.Input((None, None, 3))
    return keras.Model(image, resnet(image, variant=variant, name="encoder")).get_layer("encoder")
