"""The figures of a study: curves over epochs, and the ladder across studies."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mtl_keras.viz import save_figure, style
from trainers.reporting.results import Result, StudyResults
from trainers.reporting.tables import columns_label, is_clamped, variant_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which stay apart for the colour-blind, but for their yellow, which vanishes on white
# (https://jfly.uni-koeln.de/color).
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#20242c", "#8c8c8c")
_STYLES = ("-", "--", ":")

# metric, title, whether more is better
_PANELS = (
    ("grader", "Grader", True),
    ("miou", "Semseg: mIoU, %", True),
    ("silog", "Depth: SI-logRMSE", False),
)
_UNCLAMPED = ("difference", "Semseg − Depth", True)


def panels_of(results: Sequence[StudyResults]) -> list[tuple[str, str, bool]]:
    """What is drawn: the grader only where it is not clamped, and so tells runs apart."""
    clamped = any(is_clamped(one) for one in results)
    return [_UNCLAMPED if clamped else _PANELS[0], *_PANELS[1:]]


def unit(results: StudyResults) -> str:
    """What curves are drawn over: "step" where a variant's epochs have another number of steps, else "epoch"."""
    return "epoch" if len({run.rows[0]["step"] for run in results.results if run.counts}) < 2 else "step"


def curves(results: StudyResults) -> "Figure":
    """Validation metrics over training, a line a variant: the mean over its seeds, within a band of all of them."""
    panels, over = panels_of([results]), unit(results)
    figure = style.new_figure(13.5, 4.3)
    for axes, (metric, title, more_is_better) in zip(figure.subplots(1, 3), panels, strict=True):
        style.draw_grid(axes)
        style.write_title(axes, title, more_is_better)
        for index, variant in enumerate(results.study.variants):
            label = variant_label(results, variant) if axes is figure.axes[0] else None
            _draw_variant(axes, results.of(variant.name), metric, over, index, label)
        style.number_whole(axes, over)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if handles:
        legend = figure.legend(
            handles,
            labels,
            title=columns_label(results.study),
            title_fontsize=10,
            loc="outside lower center",
            ncols=min(len(labels), 8),
            frameon=False,
            labelcolor=style.INK,
        )
        legend.get_title().set_color(style.FAINT_INK)
    return figure


def ladder(title: str, rungs: Sequence[tuple[str, dict[str, list[float]]]], panels: Sequence) -> "Figure":
    """Steps one below the other: a dot a seed, a bar at their mean, and the mean in figures.

    Args:
        title: what is climbed.
        rungs: a step's name, and each metric's values over its seeds, from the first step to the last.
        panels: as `panels_of` gives them.
    """
    figure = style.new_figure(13.5, 1.35 + 0.42 * len(rungs), height_pad=0.06)
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=style.INK)
    all_axes = figure.subplots(1, 3, sharey=True)
    for axes, (metric, name, more_is_better), color in zip(all_axes, panels, COLORS, strict=False):
        style.draw_grid(axes, grid="x")
        style.write_title(axes, name, more_is_better)
        means = [np.mean(values[metric]) if values.get(metric) else np.nan for _, values in rungs]
        axes.plot(means, range(len(rungs)), color=color, linewidth=1.2, alpha=0.4)
        for row, (_, values) in enumerate(rungs):
            _draw_rung(axes, row, values.get(metric, []), color)
        style.widen(axes, 0.06, 0.06)
    style.label_rows(all_axes[0], [name for name, _ in rungs], room_above=0.75)
    return figure


def save(figure: "Figure", path: Path) -> None:
    """Writes a figure as PNG and PDF."""
    for suffix in (".png", ".pdf"):
        save_figure(path.with_suffix(suffix), figure)


def _draw_variant(axes: "Axes", runs: Sequence[Result], metric: str, over: str, index: int, label: str | None) -> None:
    if not runs:
        return
    epochs = min(len(run.rows) for run in runs)
    values = np.array([[_value(row, metric) for row in run.rows[:epochs]] for run in runs])
    color, line = COLORS[index % len(COLORS)], _STYLES[index // len(COLORS) % len(_STYLES)]
    x = [row[over] for row in runs[0].rows[:epochs]]
    marker = "o" if epochs == 1 else None
    axes.plot(x, values.mean(axis=0), line, color=color, linewidth=2, marker=marker, label=label)
    if len(runs) > 1:
        axes.fill_between(x, values.min(axis=0), values.max(axis=0), color=color, alpha=0.15, linewidth=0)


def _value(row: dict[str, float], metric: str) -> float:
    return row["val_miou"] - row["val_silog"] if metric == "difference" else row[f"val_{metric}"]


def _draw_rung(axes: "Axes", row: int, values: Sequence[float], color: str) -> None:
    if not values:
        return
    mean = float(np.mean(values))
    axes.plot(values, [row] * len(values), "o", color=color, markersize=5, alpha=0.45, markeredgewidth=0)
    axes.plot(mean, row, "o" if len(values) == 1 else "d", color=color, markersize=8)
    style.label_point(axes, f"{mean:.2f}".replace("-", "−"), (mean, row), (0, 8))
