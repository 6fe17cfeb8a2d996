"""Numerical faults: noticed where the host reads values anyway, and traced to the layer that they came from."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from mtl_keras.callbacks import Clock, numbers
from mtl_keras.optimizers import unwrapped


class NotFinite(Exception):
    """A loss, a weight or a moment that is not finite.

    Args:
        step: how many steps were done when it was noticed; it may have begun at any of them.
        all_skipped: whether a whole epoch of steps was skipped for it.
    """

    def __init__(self, step: int, *, all_skipped: bool = False):
        super().__init__(f"not finite by step {step}")
        self.step = step
        self.all_skipped = all_skipped


class LossWatch(keras.callbacks.Callback):
    """Raises `NotFinite` for a loss that is not finite: at an epoch's end, and whenever `look` is shown the logs.

    An epoch's loss is a mean over its steps, so that once it is not finite it stays so until the epoch ends, and none
    has to be looked at step by step.

    Args:
        clock: the run's clock.
    """

    def __init__(self, clock: Clock):
        super().__init__()
        self.clock = clock

    def look(self, values: Mapping[str, float]) -> None:
        """Looks at logs that are on the host anyway."""
        if not math.isfinite(values.get("loss", 0.0)):
            raise NotFinite(self.clock.step)

    def on_epoch_end(self, epoch, logs=None):
        self.look(numbers({"loss": (logs or {}).get("loss", 0.0)}))


class SkippedSteps(keras.callbacks.Callback):
    """Tells at each epoch's end how many steps the optimizer has skipped; raises `NotFinite` where it was all of them.

    Args:
        clock: the run's clock.
        steps_per_epoch: steps of an epoch.
        ids: gives the ids of a step's images.
        tell: takes the line.
    """

    def __init__(
        self, clock: Clock, steps_per_epoch: int, ids: Callable[[int], list[str]], tell: Callable[[str], None]
    ):
        super().__init__()
        self.clock = clock
        self.steps_per_epoch = steps_per_epoch
        self.ids = ids
        self.tell = tell
        self._before: int | None = None

    def on_epoch_begin(self, epoch, logs=None):
        self._before = self._read("skipped")

    def on_epoch_end(self, epoch, logs=None):
        if self._before is None:
            # Its steps were another process's.
            return
        fresh = self._read("skipped") - self._before
        if fresh >= self.steps_per_epoch:
            raise NotFinite(self.clock.step, all_skipped=True)
        if fresh:
            last = self._read("last_skipped")
            self.tell(
                f"epoch {epoch + 1}: {fresh} of {self.steps_per_epoch} steps skipped, their gradients were not finite; "
                f"the last was step {last + 1}, images {', '.join(self.ids(last))}"
            )

    def _read(self, name: str) -> int:
        return int(keras.ops.convert_to_numpy(getattr(unwrapped(self.model.optimizer), name)))


def all_finite(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether arrays hold neither NaN nor infinity; their extremes tell, and take no memory."""
    return all(
        math.isfinite(array.max()) and math.isfinite(array.min())
        for array in arrays.values()
        if array.size and np.issubdtype(array.dtype, np.floating)
    )


def where_not_finite(model: keras.Model, images: Any, labels: Mapping[str, Any]) -> str | None:
    """Where a step forward, layer by layer, first gives a value that is not finite.

    Batch statistics move as in any training step: put the model's state back afterwards.

    Args:
        model: a `MultiTaskModel`.
        images: (batch, height, width, 3), RGB 0–255.
        labels: a dict with `semseg` and `depth`.

    Returns:
        Such as "layer encoder/layer1_0_conv1" or "the loss of depth"; None where all is finite as far as the loss.
    """
    with _noting_layers() as noted:
        predictions = model(images, training=True)
    if noted:
        return f"layer {noted[0].path}"
    for task, loss in model.task_losses.items():
        for name in model.predictions_of(task):
            if not _finite(loss(labels[task], predictions[name])):
                return f"the loss of {task}"
    return None


@contextlib.contextmanager
def _noting_layers() -> Iterator[list[keras.Layer]]:
    """Notes the layers whose outputs are not finite, in the order in which they are done: the innermost first."""
    noted: list[keras.Layer] = []
    call = keras.Layer.__call__

    def noting(layer, *arguments, **options):
        outputs = call(layer, *arguments, **options)
        # What comes after the first is not finite because of it.
        if not noted and not all(map(_finite, keras.tree.flatten(outputs))):
            noted.append(layer)
        return outputs

    keras.Layer.__call__ = noting
    try:
        yield noted
    finally:
        keras.Layer.__call__ = call


def _finite(tensor: Any) -> bool:
    return bool(keras.ops.convert_to_numpy(keras.ops.all(keras.ops.isfinite(tensor))))
