"""A trace of a few steps, for TensorBoard's profiler or Perfetto."""

from collections.abc import Callable
from pathlib import Path

import keras

from mtl_keras.backend.tracing import start_trace
from mtl_keras.callbacks import numbers

# The first steps compile and fill the loader's buffers.
_WARM_UP = 5


class Trace(keras.callbacks.Callback):
    """Records some steps of a run's first epoch, after five that warm up, or half of a shorter epoch's.

    Args:
        folder: TensorBoard's folder of the run.
        steps: how many; fewer where the epoch ends before.
    """

    def __init__(self, folder: Path, steps: int):
        super().__init__()
        self.folder = folder
        self.steps = steps
        self._warm_up = 0
        self._done = 0
        self._stop: Callable[[], None] | None = None
        self._finished = False

    def on_train_begin(self, logs=None):
        self._warm_up = min(_WARM_UP, (self.params.get("steps") or 2 * _WARM_UP) // 2)

    def on_train_batch_begin(self, batch, logs=None):
        if self._done == self._warm_up and not self._finished:
            self._stop = start_trace(self.folder)

    def on_train_batch_end(self, batch, logs=None):
        self._done += 1
        if self._stop and self._done == self._warm_up + self.steps:
            # Wait for the device, or its last steps would be missing.
            numbers(logs)
            self.close()

    def on_test_begin(self, logs=None):
        self.close()

    def on_epoch_end(self, epoch, logs=None):
        self.close()

    def close(self) -> None:
        """Ends a recording that is under way, as one is where training fails in it."""
        if self._stop:
            self._stop()
            self._stop, self._finished = None, True
