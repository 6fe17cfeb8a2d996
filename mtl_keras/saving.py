"""Callbacks that keep a run's weights: the best ones to use, and the last state to go on from."""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import keras
import numpy as np

from mtl_keras.callbacks import Clock, numbers
from mtl_keras.checkpoints import StateFiles, training_state, weights_of, write_tensors
from mtl_keras.faults import NotFinite, all_finite


class BestWeights(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the best validation grader.

    While the grader is clamped to zero, the difference that it would be made of decides: mIoU − SI-logRMSE.

    Args:
        path: the safetensors file.
        best: the best so far, as `rank_of` gives it.
    """

    def __init__(self, path: Path, best: tuple[float, float] | None = None):
        super().__init__()
        self.path = path
        self.best = tuple(best) if best else None

    def on_epoch_end(self, epoch, logs=None):
        validation = {name[4:]: value for name, value in numbers(logs).items() if name.startswith("val_")}
        rank = rank_of(validation)
        if self.best is not None and rank <= self.best:
            return
        self.best = rank
        model = self.model
        facts = {
            "architecture": model.architecture,
            "spec": model.spec.to_dict(),
            "epoch": epoch + 1,
            "metrics": validation,
        }
        write_tensors(self.path, weights_of(model), facts)


def rank_of(metrics: Mapping[str, float]) -> tuple[float, float]:
    """What runs and epochs are compared by: the grader, then mIoU − SI-logRMSE; NaN counts as nothing."""
    difference = np.nan_to_num(metrics["miou"], nan=0.0) - np.nan_to_num(metrics["silog"], nan=100.0)
    return float(metrics["grader"]), float(difference)


class LastState(keras.callbacks.Callback):
    """Saves what training needs to go on from: at each epoch's last step, before its validation, and in between.

    A step waits for a copy of the state; the file is written by a thread of its own. A save that fails, for want of
    space, say, is told and tried again at the next time; the states before it stay. A state that is not finite is
    never saved: `NotFinite` is raised instead.

    Args:
        files: where states go.
        clock: the run's clock.
        best: whose best value is part of the state.
        steps_per_epoch: steps of an epoch.
        minutes: between saves within an epoch.
        steps: between saves within an epoch, or None.
        about: facts that go with every state.
    """

    def __init__(
        self,
        files: StateFiles,
        clock: Clock,
        best: BestWeights,
        steps_per_epoch: int,
        *,
        minutes: float = 10.0,
        steps: int | None = None,
        about: Mapping[str, object] | None = None,
    ):
        super().__init__()
        self.files = files
        self.clock = clock
        self.best = best
        self.steps_per_epoch = steps_per_epoch
        self.minutes = minutes
        self.steps = steps
        self.about = dict(about or {})
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="save")
        self._writing: Future | None = None
        self._saved_at = time.monotonic()
        self._saved_step = clock.step

    def on_train_batch_end(self, batch, logs=None):
        epoch_is_over = self.clock.step % self.steps_per_epoch == 0
        minutes_are_over = time.monotonic() - self._saved_at > 60 * self.minutes
        steps_are_over = self.steps is not None and self.clock.step - self._saved_step >= self.steps
        if epoch_is_over or minutes_are_over or steps_are_over:
            self.save()

    def save(self) -> None:
        """Saves the state after this step, unless it is saved; waits only for a save that is still being written.

        Raises:
            NotFinite: a weight, a moment or a mean of the losses is not finite; nothing is written.
        """
        if self.clock.step == self._saved_step:
            return
        self.wait()
        state = training_state(self.model)
        if not all_finite(state):
            raise NotFinite(self.clock.step)
        self._writing = self._writer.submit(self.files.save, self.clock.step, state, self.facts())
        self._saved_at, self._saved_step = time.monotonic(), self.clock.step

    def facts(self) -> dict[str, object]:
        """What goes with a state."""
        so_far = {"seconds": self.clock.seconds, "learning_rate": self.clock.learning_rate, "best": self.best.best}
        return {**self.about, **so_far}

    def wait(self) -> None:
        """Waits until the last save is on the disk; tells on stderr if it failed."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            writing.result()
        except OSError as error:
            print(f"warning: the state could not be saved ({error}); what was saved before stays", file=sys.stderr)


class Stopped(BaseException):
    """Raised out of `fit` where a signal asked the run to stop; its state is saved."""


class StopOnSignal(keras.callbacks.Callback):
    """Saves the state and raises `Stopped` at the next step after SIGTERM or SIGINT; a second signal kills at once.

    Before the first step is done there is nothing to save: until then signals do what they did before. One that comes
    after the last is passed on to who had them.

    Args:
        last: what saves.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self, last: LastState):
        super().__init__()
        self.last = last
        self._asked: int | None = None
        self._before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    def on_train_batch_end(self, batch, logs=None):
        if threading.current_thread() is threading.main_thread() and not self._before:
            self._before = {number: signal.signal(number, self._ask) for number in self.SIGNALS}
        if self._asked:
            # There is no time to look for a fault, and the state before it stays.
            with contextlib.suppress(NotFinite):
                self.last.save()
        self._stop_if_asked()

    def on_test_batch_end(self, batch, logs=None):
        # The epoch's last step is saved, and the metrics are the validation's now.
        self._stop_if_asked()

    def on_epoch_end(self, epoch, logs=None):
        self._stop_if_asked()

    def restore(self) -> None:
        """Gives the signals back to who had them before, with one that nothing was done about."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
        unheard, self._asked = self._asked, None
        if unheard:
            signal.raise_signal(unheard)

    def _ask(self, number, frame) -> None:
        del frame
        self._asked = number
        signal.signal(number, signal.SIG_DFL)

    def _stop_if_asked(self) -> None:
        if self._asked:
            self.last.wait()
            self._asked = None
            raise Stopped
