"""A training step that may come to nothing, as each backend keeps its state."""

from collections.abc import Callable
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
