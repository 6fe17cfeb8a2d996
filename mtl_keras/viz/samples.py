"""A look at a dataset: a row a sample, with one legend of the classes and one bar of metres for all of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mtl_keras.data.spec import DataSpec
from mtl_keras.viz import colors
from mtl_keras.viz.panels import LEGEND_COLUMNS, draw_class_legend, draw_depth_bar
from mtl_keras.viz.style import FAINT_INK, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches.
_PANEL_WIDTH, _GAP, _MARGIN, _CAPTION, _TITLE, _HEADING = 4.2, 0.08, 0.2, 0.26, 0.42, 0.3
_BAR, _LEGEND_GAP, _LEGEND_LINE, _LEGEND_SIZE = 0.16, 0.14, 0.23, 10.5

_HEADINGS = (("Image", ""), ("Classes", "black: ignored"), ("Depth", "checkerboard: none"))


def plot_samples(
    images: Sequence[np.ndarray],
    semseg: Sequence[np.ndarray],
    depth: Sequence[np.ndarray],
    spec: DataSpec,
    captions: Sequence[str],
    title: str,
) -> "Figure":
    """Samples below each other: image, classes with a legend, depth with a bar in metres.

    Args:
        images: RGB, each (height, width, 3) uint8; sizes may differ.
        semseg: train ids, each (height, width); what is ignored is black.
        depth: metres, each (height, width); 0 where there is none, which is a checkerboard.
        spec: gives class names, palette and depth range.
        captions: one short text a sample, at the left of its row.
        title: of the page.
    """
    from matplotlib.figure import Figure

    heights = [_PANEL_WIDTH * image.shape[0] / image.shape[1] for image in images]
    shown = sorted({int(i) for ids in semseg for i in np.unique(ids) if i < spec.num_classes})
    legend_lines = -(-max(len(shown), 1) // LEGEND_COLUMNS)
    foot = _MARGIN + max(_LEGEND_GAP + _LEGEND_LINE * legend_lines, _LEGEND_GAP + _BAR + 0.3)
    width = 2 * _MARGIN + _CAPTION + 3 * _PANEL_WIDTH + 2 * _GAP
    height = _MARGIN + _TITLE + _HEADING + sum(heights) + _GAP * (len(heights) - 1) + foot
    figure = Figure(figsize=(width, height), facecolor="white")

    def axes_at(column: int, top: float, panel_height: float, span: int = 1) -> "Axes":
        left = _MARGIN + _CAPTION + column * (_PANEL_WIDTH + _GAP)
        wide = span * _PANEL_WIDTH + (span - 1) * _GAP
        return figure.add_axes((left / width, 1 - (top + panel_height) / height, wide / width, panel_height / height))

    figure.text(_MARGIN / width, 1 - _MARGIN / height, title, fontsize=15, color=INK, va="top")
    top = _MARGIN + _TITLE + _HEADING
    for row, panel_height in enumerate(heights):
        pictures = (
            images[row],
            colors.colorize_semseg(semseg[row], spec),
            colors.colorize_depth(depth[row], spec.depth_range),
        )
        for column, picture in enumerate(pictures):
            axes = axes_at(column, top, panel_height)
            axes.imshow(picture, aspect="auto", interpolation="auto")
            axes.set_axis_off()
            if row == 0:
                axes.set_title(_HEADINGS[column][0], loc="left", fontsize=12, color=INK, pad=6)
                axes.set_title(_HEADINGS[column][1], loc="right", fontsize=9.5, color=FAINT_INK, pad=6)
        _write_caption(figure, captions[row], _MARGIN / width, 1 - (top + panel_height / 2) / height)
        top += panel_height + _GAP
    top += _LEGEND_GAP - _GAP
    legend = axes_at(0, top, _LEGEND_LINE * legend_lines, span=2)
    legend.set_axis_off()
    draw_class_legend(legend, shown, spec, (0, 0, 0.97, 1), _LEGEND_SIZE)
    draw_depth_bar(axes_at(2, top, _BAR), spec.depth_range, _LEGEND_SIZE)
    return figure


def _write_caption(figure: "Figure", text: str, x: float, y: float) -> None:
    text = text if len(text) <= 26 else f"…{text[-25:]}"
    figure.text(x, y, text, fontsize=9.5, color=FAINT_INK, rotation=90, ha="left", va="center")
