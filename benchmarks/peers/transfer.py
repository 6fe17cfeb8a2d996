"""Weights of a Keras model under the names and in the layout of the plain PyTorch one."""

from collections.abc import Iterator

import keras
import numpy as np
import torch

TORCH_NAMES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def named_variables(model: keras.Model) -> Iterator[tuple[str, keras.Variable]]:
    """Every weight with its name in PyTorch: the sub-model's name, then the layer's with "." for "_"."""
    for part in model.layers:
        for layer in getattr(part, "layers", ()):
            for variable in layer.variables:
                yield f"{part.name}.{layer.name.replace('_', '.')}.{TORCH_NAMES[variable.name]}", variable


def torch_layout(value) -> np.ndarray:
    """A weight's value, its axes in PyTorch's order: (height, width, in, out) becomes (out, in, height, width)."""
    value = keras.ops.convert_to_numpy(value)
    return np.ascontiguousarray(value.transpose(3, 2, 0, 1)) if value.ndim == 4 else value.copy()


def state_dict(model: keras.Model) -> dict[str, torch.Tensor]:
    """A Keras model's weights, for `load_state_dict` of its peer. Moving variances are left as Keras keeps them."""
    return {name: torch.from_numpy(torch_layout(variable.value)) for name, variable in named_variables(model)}


def load_keras_weights(network: torch.nn.Module, model: keras.Model) -> None:
    """Copies every weight; raises `RuntimeError` if either side has one that the other has not."""
    counters = {name: value for name, value in network.state_dict().items() if name.endswith("num_batches_tracked")}
    network.load_state_dict({**state_dict(model), **counters}, strict=True)
