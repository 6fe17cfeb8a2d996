"""What happens beside the steps of a run: its clock, its table, TensorBoard and pictures.

Logs stay on the device: a callback converts what it reads when it reads it, so that no step waits for the host.
"""

import collections
import csv
import io
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mtl_keras import backend, viz
from mtl_keras.errors import UserError, first_line
from mtl_keras.event_writer import EventWriter
from mtl_keras.files import write_text

Logs = Mapping[str, Any] | None


class CallbackList(keras.callbacks.CallbackList):
    """Keras' list, but for the logs of a batch: they reach the callbacks as they are, on the device."""

    def on_train_batch_end(self, batch, logs=None):
        for callback in self.callbacks:
            callback.on_train_batch_end(batch, logs)

    def on_test_batch_end(self, batch, logs=None):
        for callback in self.callbacks:
            callback.on_test_batch_end(batch, logs)


def numbers(logs: Logs) -> dict[str, float]:
    """Logs as Python floats; waits for the device."""
    return {name: number(value) for name, value in (logs or {}).items()}


def number(value: Any) -> float:
    """A scalar of the device in as few digits as it has: 0.0005, where `float` makes 0.0005000000237487257 of it."""
    value = keras.ops.convert_to_numpy(value)
    # Keras hands an epoch's logs on as Python's floats, in which the device's digits are all there is.
    single = np.float32(value)
    return float(str(single if single == value else value))


class NearDevice(keras.callbacks.Callback):
    """Holds the host at most two steps ahead of the device.

    Further ahead, it would empty the loader's buffer and wait there for data while the device has work.
    """

    _AHEAD = 2

    def __init__(self):
        super().__init__()
        self._under_way: collections.deque[Logs] = collections.deque()

    def on_epoch_begin(self, epoch, logs=None):
        self._under_way.clear()

    def on_train_batch_end(self, batch, logs=None):
        self._under_way.append(logs)
        if len(self._under_way) > self._AHEAD:
            backend.wait_for(self._under_way.popleft())


class Clock(keras.callbacks.Callback):
    """Counts the steps and the seconds of a run, over all its sittings, and knows an epoch's learning rate.

    Args:
        step: steps done before.
        seconds: seconds spent before.
        learning_rate: of the epoch that `step` ends or lies in.

    Raises:
        ValueError: the model takes several steps a call, which callbacks hear of as one.
    """

    def __init__(self, step: int = 0, seconds: float = 0.0, learning_rate: float = 0.0):
        super().__init__()
        self.step = step
        self.learning_rate = learning_rate
        self._started = time.monotonic() - seconds

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def on_train_begin(self, logs=None):
        if (steps := self.model.steps_per_execution) != 1:
            raise ValueError(f"steps_per_execution: {steps} steps a call cannot be counted; compile the model with 1")

    def on_epoch_begin(self, epoch, logs=None):
        # At the epoch's end the schedule is at the next epoch's rate already.
        self.learning_rate = number(self.model.optimizer.learning_rate)

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1


class MetricsTable(keras.callbacks.Callback):
    """`metrics.csv`: a row an epoch, with the epoch's number, step, seconds and learning rate before its logs.

    Args:
        path: the file.
        clock: the run's clock.
        recorded: how many epochs' rows of a file that is there already stay.
    """

    def __init__(self, path: Path, clock: Clock, recorded: int = 0):
        super().__init__()
        self.path = path
        self.clock = clock
        rows = read_metrics(path) if path.exists() else []
        counts = ("epoch", "step")
        self.rows = [row | {name: int(row[name]) for name in counts} for row in rows if row["epoch"] <= recorded]

    def on_epoch_end(self, epoch, logs=None):
        place = {"epoch": epoch + 1, "step": self.clock.step, "seconds": round(self.clock.seconds, 1)}
        self.rows.append({**place, "learning_rate": self.clock.learning_rate, **numbers(logs)})
        text = io.StringIO()
        # An epoch that is not validated has fewer.
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        writer = csv.DictWriter(text, fieldnames=names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of a `metrics.csv`; raises `UserError` where it is another table."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [{name: float(value) for name, value in row.items() if value != ""} for row in csv.DictReader(file)]
        if not all(row.keys() >= {"epoch", "step"} for row in rows):
            raise ValueError("no epoch or no step")
        return rows
    except (ValueError, TypeError, csv.Error) as error:
        raise UserError(f"{path}: not a table of metrics ({first_line(error)}); restore it, or remove it") from None


class TensorBoard(keras.callbacks.Callback):
    """Scalars of every epoch for TensorBoard, written without TensorFlow.

    Args:
        writer: where events go.
        clock: the run's clock.
        extra: further scalars, asked for at each epoch's end.
    """

    def __init__(self, writer: EventWriter, clock: Clock, extra: Callable[[], Mapping[str, float]] = dict):
        super().__init__()
        self.writer = writer
        self.clock = clock
        self.extra = extra

    def on_epoch_end(self, epoch, logs=None):
        scalars = {**numbers(logs), "learning_rate": self.clock.learning_rate, **self.extra()}
        self.writer.scalars(scalars, step=epoch + 1)
        self.writer.flush()


class Pictures(keras.callbacks.Callback):
    """A grid of predictions after every epoch, as a file and for TensorBoard, with histograms of depth.

    Args:
        images: (batch, height, width, 3), 0–255.
        labels: a dict with the images' `semseg` and `depth`.
        folder: where the PNG files go.
        writer: where TensorBoard's copies go.
        predict: takes images to their predictions.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: Mapping[str, np.ndarray],
        folder: Path,
        writer: EventWriter,
        predict: Callable[[np.ndarray], dict[str, np.ndarray]],
    ):
        super().__init__()
        self.predict = predict
        self.images = images
        self.labels = labels
        self.folder = folder
        self.writer = writer

    def on_epoch_end(self, epoch, logs=None):
        predictions = dict(self.predict(self.images))
        predictions["depth"] = np.clip(predictions["depth"], *self.model.spec.depth_range)
        grid = viz.prediction_grid(self.images, self.labels, predictions, self.model.spec)
        viz.save_png(self.folder / f"epoch_{epoch + 1:03d}.png", grid)
        self.writer.image("predictions", grid, step=epoch + 1)
        depth = self.labels["depth"]
        self.writer.histogram("depth/true", depth[depth > 0], step=epoch + 1)
        self.writer.histogram("depth/predicted", predictions["depth"], step=epoch + 1)
        self.writer.flush()
