"""Where a run computes: its devices, and the processes that train together.

None of it is a setting of the run: the batch is the global one, so a run gives the same figures on any number of
devices, up to rounding, and one that was stopped goes on with another number.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator

import keras
from absl import flags

from mtl_keras import backend
from mtl_keras.errors import UserError
from mtl_keras.saving import LastState, Stopped
from trainers.config import RunConfig

# Each would act on a replica's gradients before they are summed.
_NOT_REPLICATED = ("accumulate", "clip_norm", "ema", "on_nan")


def from_flags() -> backend.Parallel:
    """Joins the other processes, if there are any, and checks that the devices are there."""
    values = flags.FLAGS
    if values.coordinator:
        backend.connect(values.coordinator, values.processes, values.process_id)
    elif values.processes or values.process_id is not None:
        raise UserError("processes: they need a coordinator; give --coordinator=HOST:PORT, or leave them out")
    devices = values.devices
    if devices != "all" and not devices.isdecimal():
        raise UserError(f"devices: '{devices}' is no number; give one, or all")
    return backend.Parallel.over(devices if devices == "all" else int(devices), values.sync_batch_norm)


def check(config: RunConfig, parallel: backend.Parallel) -> None:
    """Raises `UserError` for a batch that the devices cannot share, or options that do not go with several."""
    total, batch = parallel.total, config.batch_size
    if batch % total:
        below, above = batch // total * total, -(-batch // total) * total
        fitting = f"{below} or {above}" if below else f"{above}"
        raise UserError(f"batch_size: {batch} cannot be shared by {total} devices; give {fitting}")
    if config.aspp and (batch if parallel.synchronized else batch // total) == 1:
        where, mend = ("", "") if total == 1 else (" on a device", "--sync_batch_norm or ")
        raise UserError(
            f"batch_size: 1{where} does not go with the ASPP, whose pooled branch would normalise over a single value; "
            f"give 2 or more, {mend}--noaspp"
        )
    if total > 1 and keras.backend.backend() == "tensorflow":
        for name in _NOT_REPLICATED:
            if getattr(config, name) != getattr(RunConfig, name):
                raise UserError(f"{name}: does not go with several devices under tensorflow; set KERAS_BACKEND=jax")


class StopTogether(keras.callbacks.Callback):
    """As `StopOnSignal`, for several processes: all save and stop after the same batch, whichever SIGTERM reaches.

    Args:
        last: what saves; None in all processes but the main one.
    """

    def __init__(self, last: LastState | None):
        super().__init__()
        self.last = last
        self._batches = 0

    def on_train_batch_end(self, batch, logs=None):
        if self._preempted():
            if self.last:
                self.last.save()
            self._stop()

    def on_test_batch_end(self, batch, logs=None):
        # The epoch's last step is saved, and the metrics are the validation's now.
        if self._preempted():
            self._stop()

    def _preempted(self) -> bool:
        self._batches += 1
        return backend.preempted(self._batches)

    def _stop(self) -> None:
        if self.last:
            self.last.wait()
        raise Stopped

    def restore(self) -> None:
        """There is no signal to give back."""


@contextlib.contextmanager
def failing_at_once() -> Iterator[None]:
    """Ends a process that fails among others without a word to them, or they and it would wait for each other."""
    try:
        yield
    except Exception as error:
        if backend.process_count() == 1:
            raise
        if isinstance(error, UserError):
            print(f"error: {error}", file=sys.stderr)
        else:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(2 if isinstance(error, UserError) else 1)
