"""Where a backend runs a model's layers one by one, instead of a graph of them."""

import importlib

import keras
from keras.src.backend.common import global_state


def is_eager() -> bool:
    """Whether each step calls the layers anew, as under PyTorch; the others call them once, for a graph."""
    return keras.backend.backend() == "torch"


def is_within_call() -> bool:
    """Whether a layer's `__call__` is under way: it sets up what the layers that are called in it share."""
    return global_state.get_global_attribute("current_call_ctx") is not None


def is_watched(layer: keras.Layer) -> bool:
    """Whether PyTorch has to tell somebody of a layer's call: by hooks of its own, or of all modules."""
    if not is_eager():
        return False
    module = importlib.import_module("torch.nn.modules.module")
    return bool(
        layer._forward_pre_hooks
        or layer._forward_hooks
        or layer._backward_pre_hooks
        or layer._backward_hooks
        or module._has_any_global_hook()
    )
