"""The plots of a run: curves over epochs, and the confusion matrix."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np

from mtl_keras.viz import style
from mtl_keras.viz.png import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

# The report's three curves: log name, title, unit, and whether more is better.
CURVES = (
    ("grader", "Grader", "", True),
    ("miou", "Semseg: mIoU", " %", True),
    ("silog", "Depth: SI-logRMSE", "", False),
)


def plot_history(metrics: Mapping[str, Sequence[float | None]], path: str | os.PathLike | None = None) -> "Figure":
    """The report's three curves over epochs: grader, semseg mIoU and depth SI-logRMSE, training and validation.

    Args:
        metrics: one list a log name, one value an epoch: `grader`, `miou`, `silog` and their `val_` twins. A curve that
            is absent is left out; None and NaN are epochs without a value.
        path: where to write the figure, if anywhere; .png, .svg or .pdf.

    Raises:
        ValueError: there is none of the curves in `metrics`.
    """
    shown = [curve for curve in CURVES if curve[0] in metrics or f"val_{curve[0]}" in metrics]
    if not shown:
        raise ValueError(f"None of the curves {[curve[0] for curve in CURVES]} is among the metrics {sorted(metrics)}.")
    figure = style.new_figure(4.6 * len(shown), 3.5)
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for axes, (name, title, unit, more_is_better) in zip(panels, shown, strict=True):
        style.draw_grid(axes)
        style.write_title(axes, title, more_is_better)
        train = _draw_curve(axes, metrics.get(name, ()), style.ACCENTS[name], train=True)
        validation = _draw_curve(axes, metrics.get(f"val_{name}", ()), style.ACCENTS[name], train=False)
        axes.margins(y=0.16)
        if name == "grader" and not np.any([*train[1], *validation[1]]):
            axes.set_ylim(-0.16, 1)
        _set_epochs(axes, last=max([1, *train[0], *validation[0]]))
        if len(validation[0]):
            _mark_best(axes, *validation, style.ACCENTS[name], unit, more_is_better)
        if axes is panels[0] and len(train[0]) and len(validation[0]):
            axes.legend(edgecolor="none", framealpha=0.85, fontsize=10, labelcolor=style.INK, loc="best")
    if path is not None:
        save_figure(path, figure)
    return figure


def plot_confusion(matrix: np.ndarray, classes: Sequence[str]) -> "Figure":
    """The confusion matrix, each true class's row in percent of its pixels, with every class's IoU at the right.

    Args:
        matrix: pixel counts, (classes, classes), true class by predicted class.
        classes: class names, in the order of the matrix.

    Raises:
        ValueError: the matrix does not have one row and one column a class.
    """
    matrix = np.asarray(matrix, np.float64)
    count = len(classes)
    if matrix.shape != (count, count):
        raise ValueError(f"The confusion matrix has shape {matrix.shape}: expected {(count, count)}, one row a class.")
    pixels = matrix.sum(axis=1, keepdims=True)
    percent = np.divide(100 * matrix, pixels, out=np.zeros_like(matrix), where=pixels > 0)
    side = 3 + 0.42 * count
    figure = style.new_figure(side + 0.4, side)
    axes = figure.subplots()
    axes.imshow(np.sqrt(percent), cmap=_white_to_accent(), vmin=0, vmax=10)
    for row, column in np.argwhere(percent >= 0.5):
        ink = "white" if percent[row, column] > 35 else style.INK
        axes.text(column, row, f"{percent[row, column]:.0f}", ha="center", va="center", fontsize=8.5, color=ink)
    axes.set_xticks(np.arange(count), classes, rotation=55, ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(count), classes)
    axes.set_xlabel("predicted class", fontsize=11, color=style.FAINT_INK, labelpad=8)
    axes.set_ylabel("true class", fontsize=11, color=style.FAINT_INK, labelpad=8)
    axes.set_title("Confusion, % of a true class's pixels", loc="left", fontsize=13, color=style.INK, pad=26)
    _label_iou(axes, matrix)
    axes.tick_params(length=0, labelsize=10, labelcolor=style.INK)
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


class _Beside(TypedDict):
    textcoords: Literal["offset points"]
    annotation_clip: bool
    fontsize: float


def _label_iou(axes: "Axes", matrix: np.ndarray) -> None:
    """Each class's IoU in percent, in a column right of the matrix."""
    true_positives = np.diag(matrix)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - true_positives
    right = len(matrix) - 0.5
    beside: _Beside = {"textcoords": "offset points", "annotation_clip": False, "fontsize": 10}
    axes.annotate("IoU, %", (right, -0.5), xytext=(10, 7), va="bottom", color=style.FAINT_INK, **beside)
    for row, (overlap, whole) in enumerate(zip(true_positives, union, strict=True)):
        text = f"{100 * overlap / whole:.1f}" if whole else "–"
        axes.annotate(text, (right, row), xytext=(10, 0), va="center", color=style.INK, **beside)


def _white_to_accent() -> "Colormap":
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("white_to_accent", ["#f6f6fa", "#b9aee0", style.ACCENTS["grader"]])


def _draw_curve(axes: "Axes", values: Sequence[float | None], color: str, train: bool) -> tuple[np.ndarray, np.ndarray]:
    """Draws the epochs that have a value, and returns them: epochs from 1, and values."""
    numbers = np.array([np.nan if value is None else value for value in values], float)
    has_value = np.isfinite(numbers)
    epochs, numbers = 1 + np.flatnonzero(has_value), numbers[has_value]
    marker = "o" if len(epochs) == 1 else None
    if not len(epochs):
        return epochs, numbers
    if train:
        axes.plot(epochs, numbers, color=color, alpha=0.4, linewidth=1.6, marker=marker, label="training")
    else:
        axes.plot(epochs, numbers, color=color, linewidth=2.4, marker=marker, label="validation")
    return epochs, numbers


def _set_epochs(axes: "Axes", last: int) -> None:
    """The horizontal axis from the first epoch to the last."""
    style.number_whole(axes)
    room = max(0.35, 0.06 * (last - 1))
    axes.set_xlim(1 - room / 2, last + room)


def _mark_best(
    axes: "Axes", epochs: np.ndarray, values: np.ndarray, color: str, unit: str, more_is_better: bool
) -> None:
    """A dot on the best epoch's value, with the number beside it; none where several epochs are all alike."""
    if len(values) > 1 and np.ptp(values) == 0:
        return
    best = int(np.argmax(values) if more_is_better else np.argmin(values))
    point = float(epochs[best]), float(values[best])
    axes.plot(*point, "o", color=color, markersize=7, markeredgecolor="white", markeredgewidth=1.5)
    offset = (0, 9 if more_is_better else -9)
    style.label_point(axes, f"{point[1]:.2f}{unit}", point, offset, color=color, size=10.5, weight="bold")
