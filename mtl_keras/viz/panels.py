"""One sample as a picture for a talk: the image, its classes with their names, its depth with a bar in metres."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mtl_keras.data.spec import DataSpec
from mtl_keras.viz import colors
from mtl_keras.viz.style import FAINT_INK, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Inches.
_PANEL_WIDTH, _GAP, _MARGIN, _TITLE, _FOOT = 6.0, 0.22, 0.2, 0.45, 0.3
_LEGEND_LINE, _LEGEND_SIZE = 0.24, 11.5
LEGEND_COLUMNS = 5
# Numbers that a depth bar has room for.
_MOST_TICKS = 6


def side_by_side(
    image: np.ndarray,
    semseg: np.ndarray,
    depth: np.ndarray,
    spec: DataSpec,
    depth_range: tuple[float, float] | None = None,
    alpha: float = 0.65,
    dpi: int = 160,
) -> Image.Image:
    """Three panels: the image, its classes laid over it with a legend of those present, its depth with a metric bar.

    Args:
        image: RGB 0–255, (height, width, 3).
        semseg: train ids, (height, width).
        depth: metres, (height, width) or (height, width, 1); 0 or not finite where there is none.
        spec: gives class names, palette and depth range.
        depth_range: metres at the ends of the colour bar, (near, far); by default the dataset's, so that pictures of
            one dataset can be compared.
        alpha: weight of the class colours, 0–1.
        dpi: pixels per inch; a panel is 6 inches wide.

    Returns:
        An RGB picture; at the default dpi, panels are 960 pixels wide.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    depth_range = depth_range or spec.depth_range
    height, width = np.shape(image)[:2]
    panel_height = _PANEL_WIDTH * height / width
    present = classes_present(np.asarray(semseg), spec)
    legend_lines = -(-len(present) // LEGEND_COLUMNS)
    foot = max(0.62, _FOOT + _LEGEND_LINE * legend_lines)
    total_width = 2 * _MARGIN + 3 * _PANEL_WIDTH + 2 * _GAP
    total_height = _TITLE + panel_height + foot

    figure = Figure(figsize=(total_width, total_height), dpi=dpi, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    pictures = (
        ("Image", colors.to_uint8(image)),
        ("Semantic segmentation", colors.overlay(image, semseg, spec, alpha)),
        ("Depth", colors.colorize_depth(depth, depth_range)),
    )
    for column, (title, picture) in enumerate(pictures):
        left = _MARGIN + column * (_PANEL_WIDTH + _GAP)
        axes = figure.add_axes(
            (left / total_width, foot / total_height, _PANEL_WIDTH / total_width, panel_height / total_height)
        )
        axes.imshow(picture, aspect="auto", interpolation="auto")
        axes.set_axis_off()
        axes.set_title(title, loc="left", fontsize=15, color=INK, pad=7)
        if column == 1:
            draw_class_legend(axes, present, spec, (0, -0.12 / panel_height, 1, 0), _LEGEND_SIZE)
        if column == 2:
            bar = figure.add_axes(
                (left / total_width, (foot - 0.28) / total_height, _PANEL_WIDTH / total_width, 0.16 / total_height)
            )
            draw_depth_bar(bar, depth_range)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def log_ticks(near: float, far: float) -> list[float]:
    """Round numbers between two depths, ends included; the ends where there are not two of them.

    They are of the 1–2–5 series; over a range where these would stand too close to be read, of a sparser one.
    """
    decades = range(int(np.floor(np.log10(near))), int(np.ceil(np.log10(far))) + 1)
    ticks: list[float] = []
    for digits in (1, 2, 5), (1, 5), (1,):
        series = [round(digit * 10.0**decade, 12) for decade in decades for digit in digits]
        ticks = [tick for tick in series if near * (1 - 1e-6) <= tick <= far * (1 + 1e-6)]
        if len(ticks) <= _MOST_TICKS:
            break
    return ticks if len(ticks) > 1 else [near, far]


def classes_present(semseg: np.ndarray, spec: DataSpec) -> list[int]:
    """Ids of the classes in the picture, the largest area first."""
    areas = np.bincount(semseg[colors.known_ids(semseg, spec)].astype(np.intp).ravel(), minlength=spec.num_classes)
    return [int(index) for index in np.argsort(-areas, kind="stable") if areas[index]]


def draw_class_legend(
    axes: "Axes", shown: Sequence[int], spec: DataSpec, anchor: tuple[float, float, float, float], font_size: float
) -> None:
    """Swatches of classes with their names, in lines of five.

    Args:
        axes: where.
        shown: the ids of the classes; nothing is drawn where there is none.
        spec: gives names and palette.
        anchor: the box whose upper side the legend hangs from, (left, bottom, width, height) in shares of the axes.
        font_size: in typographic points.
    """
    from matplotlib.patches import Patch

    if not shown:
        return
    swatches = []
    for index in shown:
        red, green, blue = spec.palette[index]
        swatches.append(Patch(color=(red / 255, green / 255, blue / 255), label=spec.classes[index]))
    axes.legend(
        handles=swatches,
        loc="upper left",
        bbox_to_anchor=anchor,
        mode="expand",
        ncols=LEGEND_COLUMNS,
        frameon=False,
        fontsize=font_size,
        labelcolor=INK,
        handlelength=1.1,
        handleheight=1.0,
        handletextpad=0.5,
        labelspacing=0.45,
        borderaxespad=0,
        borderpad=0,
    )


def draw_depth_bar(axes: "Axes", depth_range: tuple[float, float], font_size: float = _LEGEND_SIZE) -> None:
    """Fills axes with the depth colour map over a range of metres, with round numbers below it."""
    near, far = depth_range
    scale = np.geomspace(near, far, 512)[None]
    axes.imshow(colors.colorize_depth(scale, depth_range), aspect="auto", extent=(np.log(near), np.log(far), 0, 1))
    ticks = log_ticks(near, far)
    axes.set_xticks(np.log(ticks), [f"{tick:g} m" for tick in ticks])
    # A label at the very end of the bar stays within it.
    for tick, label in zip(ticks, axes.get_xticklabels(), strict=True):
        position = np.log(tick / near) / np.log(far / near)
        label.set_horizontalalignment("left" if position < 0.03 else "right" if position > 0.97 else "center")
    axes.set_yticks([])
    axes.tick_params(labelsize=font_size, labelcolor=INK, color=FAINT_INK, length=3, pad=3)
    for spine in axes.spines.values():
        spine.set_visible(False)
