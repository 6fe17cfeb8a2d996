"""A run's progress in a terminal: a bar while it trains, a line for each epoch."""

import sys
import time
from collections.abc import Callable

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mtl_keras.callbacks import numbers

_COLUMNS = ("loss", "miou", "silog", "grader")
_REFRESH_SECONDS = 1.0


class ProgressBar(keras.callbacks.Callback):
    """A bar over all steps of a run with the time left, and a line of metrics for each epoch.

    The line's last two numbers are the epoch's seconds, validation included, and the percentage of its training that
    steps spent waiting for data.

    Args:
        epochs: epochs of the run.
        steps_per_epoch: steps of an epoch.
        step: steps done before.
        console: where to print.
        waited: gives the seconds that steps have waited for data so far.
        watch: is shown the logs whenever they are read.
    """

    def __init__(
        self,
        epochs: int,
        steps_per_epoch: int,
        step: int = 0,
        console: Console | None = None,
        *,
        waited: Callable[[], float] = lambda: 0.0,
        watch: Callable[[dict[str, float]], None] = lambda values: None,
    ):
        super().__init__()
        self._waited = waited
        self._watch = watch
        self.epochs = epochs
        self.console = console or Console(file=sys.stdout, highlight=False)
        self._step = step
        self._total = epochs * steps_per_epoch
        self._shown = 0.0
        self._bar: Progress | None = None
        self._header_printed = False
        # An epoch that only its validation is left of begins here.
        self._epoch_started = time.monotonic()
        self._waited_before = self._waited()
        self._wait_share = 0.0

    def on_train_begin(self, logs=None):
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}"),
            console=self.console,
            transient=True,
            # A log file gets the epochs' lines alone.
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task("compiling", total=self._total, completed=self._step, metrics="")
        self._bar.start()

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_started = time.monotonic()
        self._waited_before = self._waited()
        self._epoch = epoch + 1

    def on_train_batch_end(self, batch, logs=None):
        self._step += 1
        if self._bar is None or time.monotonic() - self._shown < _REFRESH_SECONDS:
            return
        values = numbers(logs)
        self._watch(values)
        text = "  ".join(f"{name} {values[name]:.2f}" for name in _COLUMNS if name in values)
        self._bar.update(
            self._task, completed=self._step, description=f"epoch {self._epoch}/{self.epochs}", metrics=text
        )
        self._shown = time.monotonic()

    def on_test_begin(self, logs=None):
        seconds = max(time.monotonic() - self._epoch_started, 1e-9)
        self._wait_share = min(100 * (self._waited() - self._waited_before) / seconds, 100)
        if self._bar:
            self._bar.update(self._task, description="validating", completed=self._step)

    def on_epoch_end(self, epoch, logs=None):
        values = numbers(logs)
        if not self._header_printed:
            self.console.print(_header(), style="bold", soft_wrap=True)
            self._header_printed = True
        seconds = time.monotonic() - self._epoch_started
        row = _row(f"{epoch + 1}/{self.epochs}", values, seconds, self._wait_share)
        self.console.print(row, soft_wrap=True)

    def on_train_end(self, logs=None):
        self.close()

    def close(self) -> None:
        """Takes the bar off the terminal."""
        if self._bar:
            self._bar.stop()


def _header() -> str:
    titles = " ".join(f"{name:>7}" for name in _COLUMNS)
    return f"{'epoch':>7} {titles} │{titles}  {'time':>6} {'wait':>5}   (left: training, right: validation)"


def _row(epoch: str, values: dict[str, float], seconds: float, wait_share: float) -> str:
    halves = (" ".join(f"{values.get(s + name, float('nan')):7.2f}" for name in _COLUMNS) for s in ("", "val_"))
    return f"{epoch:>7} {' │'.join(halves)}  {seconds:4.0f} s {wait_share:3.0f} %"
