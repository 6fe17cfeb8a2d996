"""A model as a graph of named operations, for whoever draws it."""

import dataclasses
import math
from collections.abc import Iterator

import keras
from keras import KerasTensor


@dataclasses.dataclass(frozen=True)
class GraphNode:
    """An operation of a model.

    Args:
        name: unique, with the names of the blocks that it lies in before it, as in "encoder/layer1_0/conv1".
        kind: the layer's or operation's class.
        inputs: names of the nodes whose outputs it takes.
        shape: of its output, None where it is free.
        parameters: trainable ones of its own.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    shape: tuple[int | None, ...]
    parameters: int


def model_graph(model: keras.Model) -> list[GraphNode]:
    """The operations of a functional model, each after those it takes from; blocks within are opened."""
    names = [tensor.name for tensor in model.inputs]
    inputs = [GraphNode(name, "Input", (), tensor.shape, 0) for name, tensor in zip(names, model.inputs, strict=True)]
    tracer = _Tracer()
    tracer.trace(model, names, prefix="")
    return inputs + tracer.found


class _Tracer:
    """Collects the operations of a model and of the models within it."""

    def __init__(self):
        self.found: list[GraphNode] = []
        self._taken: set[str] = set()

    def trace(self, model: keras.Model, inputs: list[str], prefix: str) -> list[str]:
        """Adds a model's operations, and returns the names of those that give its outputs."""
        names = {id(tensor): name for tensor, name in zip(model.inputs, inputs, strict=True)}
        for node in calls_in_order(model):
            operation, taken = node.operation, [names[id(tensor)] for tensor in node.input_tensors]
            name = self._unique(prefix + operation.name)
            outputs: list[KerasTensor] = node.outputs
            if isinstance(operation, keras.Model):
                given = self.trace(operation, taken, f"{name}/")
            else:
                weights = getattr(operation, "trainable_weights", ())
                parameters = sum(math.prod(weight.shape) for weight in weights)
                kind = type(operation).__name__
                self.found.append(GraphNode(name, kind, tuple(taken), outputs[0].shape, parameters))
                given = [name] * len(outputs)
            names.update((id(tensor), source) for tensor, source in zip(outputs, given, strict=True))
        return [names[id(tensor)] for tensor in model.outputs]

    def _unique(self, name: str) -> str:
        number = 1
        unique = name
        while unique in self._taken:
            unique, number = f"{name}_{number}", number + 1
        self._taken.add(unique)
        return unique


def calls_in_order(model: keras.Model) -> Iterator:
    """Keras' nodes, one for each call of a model's operations; those that others take from come first."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        yield from (node for node in model._nodes_by_depth[depth] if not node.is_input)
