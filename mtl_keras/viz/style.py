"""How every figure looks: its colours, its axes, and the numbers that are written beside points."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#20242c"
FAINT_INK = "#6b7280"
AXIS_INK = "#9ca3af"
GRID_INK = "#e5e7eb"

# What the report compares runs by, in the colour that it has in all figures of one run.
ACCENTS = {"grader": "#4c3a8f", "miou": "#b5305c", "silog": "#d97708"}


def new_figure(width: float, height: float, *, height_pad: float = 0.08) -> "Figure":
    """A white page of a size in inches that finds room for the labels of its axes."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure(
        figsize=(width, height), facecolor="white", layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=height_pad)
    )


def draw_grid(axes: "Axes", grid: Literal["x", "y", "both"] = "y") -> None:
    """Hair lines across an axis ("x", "y" or "both") in the place of a frame."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(AXIS_INK)
    axes.grid(axis=grid, color=GRID_INK, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=10, labelcolor=FAINT_INK)


def write_title(axes: "Axes", title: str, more_is_better: bool) -> None:
    """What the axes show, and which way is better."""
    axes.set_title(title, loc="left", fontsize=12, color=INK, pad=9)
    direction = "higher is better" if more_is_better else "lower is better"
    axes.set_title(direction, loc="right", fontsize=9, color=FAINT_INK)


def label_rows(axes: "Axes", names: list[str], room_above: float = 0.5) -> None:
    """Names down the left side, one a row, from the top."""
    axes.set_yticks(range(len(names)), names, fontsize=11, color=INK)
    axes.set_ylim(len(names) - 0.5, -room_above)


def number_whole(axes: "Axes", unit: str = "epoch") -> None:
    """Whole epochs, or another unit's, as ticks."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(unit, fontsize=10, color=FAINT_INK)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))


def widen(axes: "Axes", left: float, right: float) -> None:
    """Gives an axis more room at its ends, in shares of its length."""
    least, greatest = axes.get_xlim()
    axes.set_xlim(least - left * (greatest - least), greatest + right * (greatest - least))


def label_point(
    axes: "Axes",
    text: str,
    point: tuple[float, float],
    offset: tuple[float, float],
    *,
    color: str = INK,
    size: float = 10,
    weight: str = "normal",
) -> None:
    """Writes beside a point, on a white rim that keeps the text legible over lines.

    Args:
        axes: where.
        text: what.
        point: in the axes' units.
        offset: of the text from the point, in typographic points; the text grows away from the point.
        color: of the text.
        size: of the text, in typographic points.
        weight: of the text.
    """
    from matplotlib.patheffects import withStroke

    right, up = offset
    axes.annotate(
        text,
        point,
        xytext=offset,
        textcoords="offset points",
        ha="left" if right > 0 else "right" if right < 0 else "center",
        va="bottom" if up > 0 else "top" if up < 0 else "center",
        fontsize=size,
        fontweight=weight,
        color=color,
        path_effects=[withStroke(linewidth=3, foreground="white")],
    )
