"""The plots of a run or a study: curves over epochs, the confusion matrix, runs against each other."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mtl_keras.viz.panels import FAINT_INK, INK
from mtl_keras.viz.png import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The report's three curves: log name, title, unit, and whether more is better.
CURVES = (
    ("grader", "Grader", "", True),
    ("miou", "Semseg: mIoU", " %", True),
    ("silog", "Depth: SI-logRMSE", "", False),
)

_ACCENTS = {"grader": "#4c3a8f", "miou": "#b5305c", "silog": "#d97708"}
_GRID = "#e5e7eb"


def plot_history(metrics: Mapping[str, Sequence[float | None]], path: str | os.PathLike | None = None) -> "Figure":
    """The report's three curves over epochs: grader, semseg mIoU and depth SI-logRMSE, training and validation.

    Args:
        metrics: one list a log name, one value an epoch: `grader`, `miou`, `silog` and their `val_` twins. A curve that
            is absent is left out; None and NaN are epochs without a value.
        path: where to write the figure, if anywhere; .png, .svg or .pdf.

    Raises:
        ValueError: there is none of the curves in `metrics`.
    """
    from matplotlib.figure import Figure

    shown = [curve for curve in CURVES if curve[0] in metrics or f"val_{curve[0]}" in metrics]
    if not shown:
        raise ValueError(f"None of the curves {[curve[0] for curve in CURVES]} is among the metrics {sorted(metrics)}.")
    figure = Figure(figsize=(4.6 * len(shown), 3.5), facecolor="white", layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for axes, (name, title, unit, more_is_better) in zip(panels, shown, strict=True):
        _style(axes)
        _title(axes, title, more_is_better)
        axes.set_xlabel("epoch", fontsize=10, color=FAINT_INK)
        train = _draw_curve(axes, metrics.get(name, ()), _ACCENTS[name], train=True)
        validation = _draw_curve(axes, metrics.get(f"val_{name}", ()), _ACCENTS[name], train=False)
        axes.margins(y=0.16)
        _set_epochs(axes, last=max([1, *train[0], *validation[0]]))
        if len(validation[0]):
            _mark_best(axes, *validation, _ACCENTS[name], unit, more_is_better)
        if axes is panels[0] and len(train[0]) and len(validation[0]):
            axes.legend(edgecolor="none", framealpha=0.85, fontsize=10, labelcolor=INK, loc="best")
    if path is not None:
        save_figure(path, figure)
    return figure


def plot_ladder(runs: Mapping[str, Mapping[str, float]], path: str | os.PathLike | None = None) -> "Figure":
    """Runs against each other, one below the other: grader, semseg mIoU and depth SI-logRMSE of each.

    Args:
        runs: a run's name → its `grader`, `miou` and `silog`, in the order in which to draw them from top to bottom; a
            number that is absent is left out.
        path: where to write the figure, if anywhere; .png, .svg or .pdf.
    """
    from matplotlib.figure import Figure

    height = 0.95 + 0.36 * len(runs)
    figure = Figure(figsize=(13, height), facecolor="white", layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
    panels = figure.subplots(1, len(CURVES), sharey=True)
    for axes, (name, title, _, more_is_better) in zip(panels, CURVES, strict=True):
        _style(axes, along="y")
        _title(axes, title, more_is_better)
        values = np.array([run.get(name, np.nan) for run in runs.values()], float)
        rows = np.arange(len(runs))
        axes.plot(values, rows, color=_ACCENTS[name], linewidth=1, alpha=0.35)
        axes.plot(values, rows, "o", color=_ACCENTS[name], markersize=7)
        for row, value in zip(rows, values, strict=True):
            if np.isfinite(value):
                axes.annotate(
                    f"{value:.2f}",
                    (value, row),
                    xytext=(9, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=10,
                    color=INK,
                    path_effects=_halo(),
                )
        least, greatest = axes.get_xlim()
        axes.set_xlim(least - 0.04 * (greatest - least), greatest + 0.16 * (greatest - least))
    panels[0].set_yticks(np.arange(len(runs)), list(runs), fontsize=11, color=INK)
    panels[0].set_ylim(len(runs) - 0.5, -0.5)
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
    from matplotlib.figure import Figure

    matrix = np.asarray(matrix, np.float64)
    count = len(classes)
    if matrix.shape != (count, count):
        raise ValueError(f"The confusion matrix has shape {matrix.shape}: expected {(count, count)}, one row a class.")
    pixels = matrix.sum(axis=1, keepdims=True)
    percent = np.divide(100 * matrix, pixels, out=np.zeros_like(matrix), where=pixels > 0)
    side = 3 + 0.42 * count
    figure = Figure(figsize=(side + 0.4, side), facecolor="white", layout="constrained")
    axes = figure.subplots()
    axes.imshow(np.sqrt(percent), cmap=_white_to_accent(), vmin=0, vmax=10)
    for row, column in np.argwhere(percent >= 0.5):
        ink = "white" if percent[row, column] > 35 else INK
        axes.text(column, row, f"{percent[row, column]:.0f}", ha="center", va="center", fontsize=8.5, color=ink)
    axes.set_xticks(np.arange(count), classes, rotation=55, ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(count), classes)
    axes.set_xlabel("predicted class", fontsize=11, color=FAINT_INK, labelpad=8)
    axes.set_ylabel("true class", fontsize=11, color=FAINT_INK, labelpad=8)
    axes.set_title("Confusion, % of a true class's pixels", loc="left", fontsize=13, color=INK, pad=26)
    _label_iou(axes, matrix)
    axes.tick_params(length=0, labelsize=10, labelcolor=INK)
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def _label_iou(axes: "Axes", matrix: np.ndarray) -> None:
    """Each class's IoU in percent, in a column right of the matrix."""
    true_positives = np.diag(matrix)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - true_positives
    right = len(matrix) - 0.5
    beside = {"textcoords": "offset points", "annotation_clip": False, "fontsize": 10}
    axes.annotate("IoU, %", (right, -0.5), xytext=(10, 7), va="bottom", color=FAINT_INK, **beside)
    for row, (overlap, whole) in enumerate(zip(true_positives, union, strict=True)):
        text = f"{100 * overlap / whole:.1f}" if whole else "–"
        axes.annotate(text, (right, row), xytext=(10, 0), va="center", color=INK, **beside)


def _white_to_accent():
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("white_to_accent", ["#f6f6fa", "#b9aee0", _ACCENTS["grader"]])


def _title(axes: "Axes", title: str, more_is_better: bool) -> None:
    axes.set_title(title, loc="left", fontsize=12.5, color=INK, pad=10)
    direction = "higher is better" if more_is_better else "lower is better"
    axes.set_title(direction, loc="right", fontsize=9, color=FAINT_INK)


def _style(axes: "Axes", along: str = "x") -> None:
    """Horizontal (or vertical) hair lines in the place of a frame."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#9ca3af")
    axes.grid(axis="y" if along == "x" else "x", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=10, labelcolor=FAINT_INK)


def _draw_curve(axes: "Axes", values: Sequence[float | None], color: str, train: bool) -> tuple[np.ndarray, np.ndarray]:
    """Draws the epochs that have a value, and returns them: epochs from 1, and values."""
    values = np.array([np.nan if value is None else value for value in values], float)
    has_value = np.isfinite(values)
    epochs, values = 1 + np.flatnonzero(has_value), values[has_value]
    if not len(epochs):
        return epochs, values
    marker = "o" if len(epochs) == 1 else None
    if train:
        axes.plot(epochs, values, color=color, alpha=0.4, linewidth=1.6, marker=marker, label="training")
    else:
        axes.plot(epochs, values, color=color, linewidth=2.4, marker=marker, label="validation")
    return epochs, values


def _set_epochs(axes: "Axes", last: int) -> None:
    """The horizontal axis from the first epoch to the last, with whole epochs as ticks."""
    from matplotlib.ticker import MaxNLocator

    room = max(0.35, 0.06 * (last - 1))
    axes.set_xlim(1 - room / 2, last + room)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))


def _mark_best(
    axes: "Axes", epochs: np.ndarray, values: np.ndarray, color: str, unit: str, more_is_better: bool
) -> None:
    """A dot on the best epoch's value, with the number beside it."""
    best = int(np.argmax(values) if more_is_better else np.argmin(values))
    axes.plot(epochs[best], values[best], "o", color=color, markersize=7, markeredgecolor="white", markeredgewidth=1.5)
    axes.annotate(
        f"{values[best]:.2f}{unit}",
        (epochs[best], values[best]),
        xytext=(0, 9 if more_is_better else -9),
        textcoords="offset points",
        ha="center",
        va="bottom" if more_is_better else "top",
        fontsize=10.5,
        fontweight="bold",
        color=color,
        path_effects=_halo(),
    )


def _halo() -> list:
    """A white rim that keeps text legible over lines."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=3, foreground="white")]
