"""A run's progress in a terminal: a bar while it trains, a line for each epoch."""

import sys
import time
from collections.abc import Callable

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mtl_keras.callbacks import numbers

# A narrow terminal gets a shorter bar first, and then fewer metrics.
_BAR_WIDTHS = (8, 24)
_ALL_METRICS = len("loss 99.99  miou 99.99  silog 99.99  grader 99.99")
_TIMES = len(" 0:00:00 left 0:00:00   ")
_COLUMNS = ("loss", "miou", "silog", "grader")
_REFRESH_SECONDS = 1.0
# Long enough for a few slow steps: of fewer than two, the time left is not known.
_SPEED_SECONDS = 300.0
_TITLES = " ".join(f"{name:>6}" for name in _COLUMNS)
# Together with the rows, it fits into 80 columns.
_HEADER = f"{'':>7} {'training':>27} │{'validation':>27}\n{'epoch':>7} {_TITLES} │{_TITLES} {'time':>8} {'wait':>5}"


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
        self.console = console or Console(file=sys.stdout, highlight=False, markup=False)
        self._step = step
        self._total = epochs * steps_per_epoch
        self._behind: dict | None = None
        self._read_step, self._read_at = step, time.monotonic()
        self._steps_a_refresh = 1
        self._bar: Progress | None = None
        self._header_printed = False
        # An epoch that only its validation is left of begins here.
        self._epoch_started = time.monotonic()
        self._waited_before = self._waited()
        self._wait_share = 0.0

    def on_train_begin(self, logs=None):
        place = f"epoch {self.epochs}/{self.epochs} {self._total}/{self._total}"
        left = self.console.width - len(place) - _TIMES
        bar_width = min(max(left - _ALL_METRICS, _BAR_WIDTHS[0]), _BAR_WIDTHS[1])
        self._room = max(left - bar_width, 0)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=bar_width),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}"),
            console=self.console,
            transient=True,
            speed_estimate_period=_SPEED_SECONDS,
            # A log file gets the epochs' lines alone.
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task("compiling", total=self._total, completed=self._step, metrics="")
        self._bar.start()
        # A signal ends the process in the middle of compiling, and the terminal must not stay without its cursor.
        self.console.show_cursor(True)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_started = time.monotonic()
        self._waited_before = self._waited()
        self._epoch = epoch + 1
        self._behind = None

    def on_train_batch_end(self, batch, logs=None):
        self._step += 1
        # A step's logs are read when the next one is under way, so that the device has work meanwhile.
        behind, self._behind = self._behind, logs
        if self._bar is None or behind is None or not self._is_time(self._step - 1):
            return
        values = numbers(behind)
        self._note_pace(self._step - 1)
        self._watch(values)
        description = f"epoch {self._epoch}/{self.epochs}"
        self._bar.update(
            self._task, completed=self._step - 1, description=description, metrics=self._metrics_that_fit(values)
        )

    def _metrics_that_fit(self, values: dict[str, float]) -> str:
        texts = [f"{name} {values[name]:.2f}" for name in _COLUMNS if name in values]
        while len("  ".join(texts)) > self._room:
            texts.pop()
        return "  ".join(texts)

    def _is_time(self, step: int) -> bool:
        """Whether the bar is to move: about once a second of the device's time, of which the host may be far ahead."""
        steps, seconds = step - self._read_step, time.monotonic() - self._read_at
        return steps >= self._steps_a_refresh or seconds >= _REFRESH_SECONDS

    def _note_pace(self, step: int) -> None:
        """Counts how many steps the device takes in a second; having read a step's logs, the host knows."""
        now = time.monotonic()
        pace = (step - self._read_step) / max(now - self._read_at, 1e-9)
        self._steps_a_refresh = max(1, min(int(_REFRESH_SECONDS * pace), 2 * self._steps_a_refresh))
        self._read_step, self._read_at = step, now

    def on_test_begin(self, logs=None):
        seconds = max(time.monotonic() - self._epoch_started, 1e-9)
        self._wait_share = min(100 * (self._waited() - self._waited_before) / seconds, 100)
        if self._bar:
            self._bar.update(self._task, description="validating", completed=self._step)

    def on_epoch_end(self, epoch, logs=None):
        values = numbers(logs)
        if not self._header_printed:
            self.console.print(_HEADER, style="bold", soft_wrap=True)
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


def _row(epoch: str, values: dict[str, float], seconds: float, wait_share: float) -> str:
    halves = (" ".join(f"{values.get(s + name, float('nan')):6.2f}" for name in _COLUMNS) for s in ("", "val_"))
    return f"{epoch:>7} {' │'.join(halves)} {seconds:6.0f} s {wait_share:3.0f} %"
