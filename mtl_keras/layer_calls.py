"""A model's layers called one after the other, for a backend that calls them in every step.

Around each layer's `call` Keras checks, converts and notes. Where a step is compiled that happens once; PyTorch has it
in every one, some 200 times for a branched network.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import KerasTensor

from mtl_keras import backend
from mtl_keras.layers import Block
from mtl_keras.model_graph import calls_in_order

# Whoever puts another in its place wants to see every call.
_LAYER_CALL = keras.Layer.__call__


class LayerCalls:
    """The calls of a functional model's layers, blocks opened; where Keras would add nothing, by `call` alone.

    Args:
        model: a functional model without masks. Its layers may be frozen and watched at any time.
    """

    def __init__(self, model: keras.Model):
        self._inputs = [id(tensor) for tensor in model.inputs]
        self._outputs = [id(tensor) for tensor in model.outputs]
        self._calls = [_Call(node, model.compute_dtype) for node in calls_in_order(model)]

    def run(self, inputs: Sequence[Any], training: bool) -> list[Any]:
        """The model's outputs, flat, of its inputs, flat and of the types that it was built for."""
        values = dict(zip(self._inputs, inputs, strict=True))
        for call in self._calls:
            values.update(zip(call.outputs, call.run(values, training), strict=True))
        return [values[output] for output in self._outputs]


class _Call:
    """A call of a layer or another operation, from and to values by the ids of their symbolic tensors."""

    def __init__(self, node: Any, dtype: str):
        self.outputs = [id(tensor) for tensor in node.outputs]
        self._operation, self._arguments, self._dtype = node.operation, node.arguments, dtype
        self._block = LayerCalls(node.operation) if isinstance(node.operation, Block) else None
        self._listed = len(node.arguments.args) == 1 and isinstance(node.arguments.args[0], list | tuple)
        tensors = node.arguments.args[0] if self._listed else node.arguments.args
        self._inputs = [id(tensor) for tensor in tensors]
        self._is_simple = (
            isinstance(node.operation, keras.Layer)
            and all(isinstance(tensor, KerasTensor) for tensor in tensors)
            # Keras notes what it gave a layer by itself, masks (of which there are none) and whether it was training.
            and set(node.arguments.kwargs) <= {"mask", "training"}
            # A block's inputs are converted by none.
            and (self._block is not None or all(tensor.dtype == dtype for tensor in tensors))
        )

    def run(self, values: dict[int, Any], training: bool) -> list[Any]:
        """Its outputs, flat."""
        options = {"training": training} if getattr(self._operation, "_call_has_training_arg", False) else {}
        if self._is_simple and self._is_plain(self._operation):
            tensors = [values[tensor] for tensor in self._inputs]
            if self._block is not None:
                return self._block.run(tensors, training)
            outputs = self._operation.call(*([tensors] if self._listed else tensors), **options)
        else:
            positional, named = self._arguments.fill_in(values)
            outputs = self._operation(*positional, **{**named, **options})
        return [outputs] if len(self.outputs) == 1 else keras.tree.flatten(outputs)

    def _is_plain(self, layer: keras.Layer) -> bool:
        """Whether Keras and the backend would do no more, now, than call it."""
        return (
            type(layer).__call__ is _LAYER_CALL
            and layer.autocast
            and layer.compute_dtype == self._dtype
            and layer.activity_regularizer is None
            and layer.quantization_mode is None
            and layer._remat_mode is None
            and not backend.is_watched(layer)
        )
