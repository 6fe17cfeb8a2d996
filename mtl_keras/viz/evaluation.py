"""The plots of an evaluation: how far confidence can be trusted, and how errors grow with distance."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mtl_keras.viz import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BARS, _GREY_BARS = "#e3e1ee", "#8b93a3"


def plot_calibration(counts: np.ndarray, correct: np.ndarray, confidence: np.ndarray) -> "Figure":
    """A reliability diagram: the accuracy of pixels over their confidence, and how many there are of each.

    Args:
        counts: pixels in each of the equal bins of confidence from 0 to 1.
        correct: those of them that are right.
        confidence: the sum of their confidences.
    """
    counts, filled = np.asarray(counts, float), np.asarray(counts) > 0
    share = 100 * counts / max(counts.sum(), 1)
    mean, accuracy = 100 * confidence[filled] / counts[filled], 100 * correct[filled] / counts[filled]
    error = np.abs(np.asarray(confidence) - correct).sum() / max(counts.sum(), 1) * 100

    figure = style.new_figure(5.4, 5.2, height_pad=0.1)
    axes = figure.subplots()
    style.draw_grid(axes, grid="both")
    width = 100 / len(counts)
    axes.bar(
        (np.arange(len(counts)) + 0.5) * width, share, width * 0.92, color=_BARS, label="share of pixels", zorder=1
    )
    axes.plot([0, 100], [0, 100], color=style.AXIS_INK, linewidth=1.2, linestyle=(0, (4, 3)), label="perfect", zorder=2)
    axes.plot(
        mean, accuracy, "o-", color=style.ACCENTS["miou"], linewidth=2.2, markersize=5.5, label="accuracy", zorder=3
    )
    axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    axes.set_xlabel("confidence, %", fontsize=11, color=style.FAINT_INK)
    axes.set_ylabel("accuracy, % · share of pixels, %", fontsize=11, color=style.FAINT_INK)
    axes.set_title("Calibration", loc="left", fontsize=13, color=style.INK, pad=12)
    axes.set_title(f"expected error {error:.1f} %", loc="right", fontsize=10, color=style.FAINT_INK)
    axes.legend(loc="upper left", frameon=False, fontsize=10, labelcolor=style.INK)
    return figure


def plot_distance_bands(bands: Mapping[str, Mapping[str, float]]) -> "Figure":
    """Depth errors by band of true depth: relative error and SI-logRMSE, with each band's share of the pixels.

    Args:
        bands: a band's name → its `rel`, `silog` and `pixels`, from near to far.
    """
    names = list(bands)
    rows = range(len(names))
    pixels = np.array([band["pixels"] for band in bands.values()], float)
    figure = style.new_figure(9.6, 1.3 + 0.42 * len(names))
    panels = figure.subplots(1, 3, sharey=True)
    columns = (
        ("Relative error, %", [100 * band["rel"] for band in bands.values()], style.ACCENTS["silog"]),
        ("SI-logRMSE", [band["silog"] for band in bands.values()], style.ACCENTS["silog"]),
        ("Share of pixels, %", (100 * pixels / max(pixels.sum(), 1)).tolist(), _GREY_BARS),
    )
    for axes, (title, values, color) in zip(panels, columns, strict=True):
        style.draw_grid(axes, grid="x")
        axes.set_title(title, loc="left", fontsize=12, color=style.INK, pad=8)
        # What a diverged model is off by is no number, and has no bar.
        lengths = np.nan_to_num(values, posinf=0)
        axes.barh(rows, lengths, height=0.62, color=color)
        axes.set_xlim(0, 1.2 * max(*lengths, 1e-9))
        for row, (value, length) in enumerate(zip(values, lengths, strict=True)):
            style.label_point(axes, f"{value:.1f}", (length, row), (5, 0))
    style.label_rows(panels[0], names)
    return figure
