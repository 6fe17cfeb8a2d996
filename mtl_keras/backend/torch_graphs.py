"""A model's steps under PyTorch as graphs that its compiler takes whole.

`torch.compile` of a step as Keras has it follows the Python of some 200 layers, and gives up at each. Here a step is
first recorded, with stand-ins for its tensors, as a function of all variables' values; that is what is compiled.
"""

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

# Its own use of what it deprecates.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\._inductor")


class CompiledSteps:
    """What `keras.Model` does with a batch, compiled for each size of batch; the optimizer's part is not.

    Args:
        model: compiled. Of its layers, losses and metrics none may ask what a tensor holds, or be a
            `torch.autograd.Function`, whose gradient is not recorded.

    Raises:
        ValueError: from a step, where a layer, a loss or a metric asks what a tensor holds.
    """

    def __init__(self, model: keras.Model):
        self._model = model
        self._train = _Graph(model, functools.partial(self._loss_and_logs, training=True))
        self._test = _Graph(model, functools.partial(self._loss_and_logs, training=False))
        self._predict = _Graph(model, lambda x: model(x, training=False))

    def train_step(self, data: Any) -> dict[str, Any]:
        """A step of training on images and labels; gives the logs after it."""
        model = self._model
        model.zero_grad()
        loss, logs = self._train(*_parts(data))
        trained = model.trainable_variables
        if trained:
            model.optimizer.scale_loss(loss).backward()
            with torch.no_grad():
                model.optimizer.apply([variable.value.grad for variable in trained], trained)
        return logs

    def test_step(self, data: Any) -> dict[str, Any]:
        """Adds images and labels to the metrics; gives the logs after them."""
        return self._test(*_parts(data))[1]

    def predict_step(self, data: Any) -> Any:
        """The outputs of images."""
        return self._predict(_parts(data)[0])

    def _loss_and_logs(self, x, y, sample_weight=None, *, training):
        predictions = self._model(x, training=training)
        loss = self._model.compute_loss(x, y, predictions, sample_weight, training=training)
        return loss, _detached(self._model.compute_metrics(x, y, _detached(predictions)))


class _Recorded(NamedTuple):
    """A compiled function, of variables' values and inputs to a result and new values of the variables it moves."""

    function: Callable[..., Any]
    moved: Sequence[keras.Variable]


class _Graph:
    """A function of arrays that reads and moves a model's variables, recorded and compiled for each kind of them."""

    def __init__(self, model: keras.Model, function: Callable[..., Any]):
        self._model, self._function = model, function
        self._recorded: dict[Any, _Recorded] = {}

    def __call__(self, *inputs: Any) -> Any:
        inputs = keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)
        variables = [*self._model.variables, *self._model.metrics_variables]
        values = [variable.value for variable in variables]
        key = (torch.is_grad_enabled(), *map(_kind, [*values, *keras.tree.flatten(inputs)]))
        if key not in self._recorded:
            self._recorded[key] = self._record(variables, values, inputs)
        function, moved = self._recorded[key]
        result, moves = function(values, *inputs)
        if moved:
            with torch.no_grad():
                torch._foreach_copy_([variable.value for variable in moved], moves)
        return result

    def _record(self, variables, values, inputs) -> _Recorded:
        moved: list[keras.Variable] = []

        def of_values(values, *inputs):
            with keras.StatelessScope(list(zip(variables, values, strict=True))) as scope:
                before = [scope.get_current_value(variable) for variable in variables]
                result = self._function(*inputs)
                after = [scope.get_current_value(variable) for variable in variables]
            moves = {i: new.detach() for i, (new, old) in enumerate(zip(after, before, strict=True)) if new is not old}
            moved[:] = [variables[i] for i in moves]
            return result, [*moves.values()]

        try:
            graph = make_fx(of_values, tracing_mode="fake")(values, *inputs)
        except (DataDependentOutputException, GuardOnDataDependentSymNode) as error:
            raise ValueError(
                "jit_compile: a layer, a loss or a metric asks what a tensor holds, which is not known while PyTorch "
                "compiles; compute it by keras.ops, or leave jit_compile out"
            ) from error
        return _Recorded(torch.compile(graph, dynamic=False), moved)


def _parts(data: Any) -> list[Any]:
    """Those of images, labels and weights that a batch has."""
    return [part for part in keras.utils.unpack_x_y_sample_weight(data) if part is not None]


def _detached(tensors: Any) -> Any:
    return keras.tree.map_structure(torch.Tensor.detach, tensors)


def _kind(tensor: torch.Tensor) -> tuple[Any, ...]:
    """What of a tensor a graph may depend on: all but what it holds. Whether a layer is frozen shows in its weights."""
    return tuple(tensor.shape), tensor.dtype, tensor.device, tensor.requires_grad
