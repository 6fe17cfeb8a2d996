"""What each backend needs for a step that may come to nothing, and for what is computed between steps."""

import contextlib
import importlib
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras


def undo_where_skipped(model: keras.Model, train_step: Callable[..., Any], *arguments: Any) -> Any:
    """A training step that leaves batch statistics and metrics as they were where the optimizer skips it.

    Args:
        model: its optimizer counts what it skips in `skipped`.
        train_step: Keras' own, which takes (state, data) on JAX and (data) elsewhere.
        *arguments: what it takes.
    """
    skipped = model.optimizer.skipped
    if keras.backend.backend() == "jax":
        index = next(i for i, variable in enumerate(model.optimizer.variables) if variable is skipped)
        before = arguments[0]
        logs, (trainable, statistics, optimizer, metrics) = train_step(*arguments)
        moved = optimizer[index] == before[2][index]
        statistics, metrics = (
            [keras.ops.where(moved, *pair) for pair in zip(new, old, strict=True)]
            for new, old in ((statistics, before[1]), (metrics, before[3]))
        )
        return logs, (trainable, statistics, optimizer, metrics)
    kept = [*model.non_trainable_variables, *model.metrics_variables]
    values, count = [keras.ops.copy(variable) for variable in kept], keras.ops.copy(skipped)
    logs = train_step(*arguments)
    moved = keras.ops.equal(skipped, count)
    for variable, value in zip(kept, values, strict=True):
        variable.assign(keras.ops.where(moved, keras.ops.convert_to_tensor(variable), value))
    return logs


def as_one(function: Callable[[], Any], variables: Sequence[keras.Variable]) -> Callable[[], Any]:
    """A function of variables' values that JAX compiles as one, not each of its operations when it is first used.

    Args:
        function: reads no other state.
        variables: the Keras variables that it reads.
    """
    if keras.backend.backend() != "jax":
        return function

    def of_values(values: Sequence[Any]) -> Any:
        with keras.StatelessScope(zip(variables, values, strict=True)):
            return function()

    compiled = importlib.import_module("jax").jit(of_values)
    return lambda: compiled([variable.value for variable in variables])


def compiled_steps(model: keras.Model) -> Any:
    """The steps of a model that PyTorch is to compile: an object with `train_step`, `test_step` and `predict_step`."""
    return importlib.import_module("mtl_keras.backend.torch_graphs").CompiledSteps(model)


_LOCKS: weakref.WeakKeyDictionary[keras.Model, Any] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def state_kept(model: keras.Model, *, alone: bool = True) -> Iterator[None]:
    """Where `fit`, `evaluate` or `predict` fails under JAX, gives a model the values back that Keras took from it.

    Meanwhile other threads' calls wait, for they would not find what this one has taken; not if it is not `alone`.
    """
    if keras.backend.backend() != "jax":
        yield
        return
    with _LOCKS.setdefault(model, threading.RLock()) if alone else contextlib.nullcontext():
        yield from _kept(model)


def _kept(model: keras.Model) -> Iterator[None]:
    # A callback may ask in the middle of `fit`, whose state is the newest then; any other is of a call that is over.
    if any(variable._value is None for variable in _variables(model)):
        model.jax_state_sync()
    model._jax_state = None
    taken: list[tuple[keras.Variable, Any]] = []
    take = model._purge_model_variables

    def keep_and_take(**which: bool) -> None:
        # What callbacks did to the model since the last step is newer than that step's state.
        model._jax_state = None
        taken[:] = [(variable, variable._value) for variable in _variables(model)]
        take(**which)

    outer = model.__dict__.get("_purge_model_variables")
    model.__dict__["_purge_model_variables"] = keep_and_take
    try:
        yield
    except BaseException:
        # Those after the last step, if there was one since.
        model.jax_state_sync()
        for variable, value in taken:
            if variable._value is None and not value.is_deleted():
                variable.assign(value)
        raise
    finally:
        model.__dict__.pop("_purge_model_variables")
        if outer is not None:
            model.__dict__["_purge_model_variables"] = outer


def _variables(model: keras.Model) -> list[keras.Variable]:
    """All that a step may move."""
    optimizer = model.optimizer.variables if model.compiled and model.optimizer else []
    return [*model.variables, *optimizer, *model.metrics_variables]
