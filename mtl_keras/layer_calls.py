"""A model's layers called one after the other, for a backend that calls them in every step.

Around each layer's `call` Keras checks, converts and notes. Where a step is compiled that happens once; PyTorch has it
in every one, some 200 times for a branched network.
"""

import functools
from collections.abc import Sequence
from typing import Any

import keras
from keras import KerasTensor
from keras.backend import standardize_dtype

from mtl_keras import backend
from mtl_keras.layers import Block
from mtl_keras.model_graph import calls_in_order

# Others' layers may give types that they did not tell, or see to more in a call than is known here.
_KNOWN = {"keras", "mtl_keras"}
# Whoever puts another in their place wants to see every call.
_LAYER_CALL = keras.Layer.__call__
_REPLACEABLE = {"call", "forward"}
_name = functools.cache(standardize_dtype)


class LayerCalls:
    """The calls of a functional model's layers, blocks opened; where Keras would add nothing, by `call` alone.

    Args:
        model: a functional model. Its layers may be frozen, watched and given other policies at any time.
    """

    def __init__(self, model: keras.Model):
        self._inputs = [id(tensor) for tensor in model.inputs]
        self._outputs = [id(tensor) for tensor in model.outputs]
        self._calls = [_Call(node, model) for node in calls_in_order(model)]

    def run(self, inputs: Sequence[Any], training: bool) -> list[Any]:
        """The model's outputs, flat, of its inputs, flat and of the types that it was built for."""
        values = dict(zip(self._inputs, inputs, strict=True))
        for call in self._calls:
            values.update(zip(call.outputs, call.run(values, training), strict=True))
        return [values[output] for output in self._outputs]


class _Call:
    """A call of a layer or another operation, from and to values by the ids of their symbolic tensors."""

    def __init__(self, node: Any, model: keras.Model):
        self.outputs = [id(tensor) for tensor in node.outputs]
        self._operation, self._arguments, self._model = node.operation, node.arguments, model
        self._block = LayerCalls(node.operation) if type(node.operation) is Block else None
        self._listed = len(node.arguments.args) == 1 and isinstance(node.arguments.args[0], list | tuple)
        tensors = node.arguments.args[0] if self._listed else node.arguments.args
        self._inputs = [id(tensor) for tensor in tensors]
        self._is_simple = (
            isinstance(node.operation, keras.Layer)
            and type(node.operation).__module__.partition(".")[0] in _KNOWN
            and all(isinstance(tensor, KerasTensor) for tensor in tensors)
            # Keras notes what it gave a layer by itself, and whether it was training.
            and set(node.arguments.kwargs) <= {"mask", "training"}
            and all(mask is None for mask in keras.tree.flatten(node.arguments.kwargs.get("mask")))
            and all(getattr(tensor, "_keras_mask", None) is None for tensor in (*tensors, *node.outputs))
        )

    def run(self, values: dict[int, Any], training: bool) -> list[Any]:
        """Its outputs, flat."""
        tensors = [values[tensor] for tensor in self._inputs] if self._is_simple else []
        if self._is_simple and self._is_plain(self._operation, tensors):
            if self._block is not None:
                return self._block.run(tensors, training)
            options = {"training": training} if self._operation._call_has_training_arg else {}
            outputs = self._operation.call(*([tensors] if self._listed else tensors), **options)
        else:
            options = {"training": training} if "training" in getattr(self._operation, "_call_context_args", ()) else {}
            positional, named = self._arguments.fill_in(values)
            outputs = self._operation(*positional, **{**named, **options})
        return keras.tree.flatten(outputs) if isinstance(outputs, list | tuple | dict) else [outputs]

    def _is_plain(self, layer: keras.Layer, tensors: Sequence[Any]) -> bool:
        """Whether Keras and the backend would do no more, now, than call it."""
        policy, around = layer.dtype_policy, self._model.dtype_policy
        return (
            type(layer).__call__ is _LAYER_CALL
            and not _REPLACEABLE & vars(layer).keys()
            and layer.autocast
            and (policy is around or _dtypes(policy) == _dtypes(around))
            # A block's inputs are converted by none.
            and (self._block is not None or all(_name(x.dtype) == policy.compute_dtype for x in tensors))
            and layer.activity_regularizer is None
            and layer.quantization_mode is None
            and layer._remat_mode is None
            and not backend.is_watched(layer)
        )


def _dtypes(policy: keras.DTypePolicy) -> tuple[str, str]:
    return policy.compute_dtype, policy.variable_dtype
