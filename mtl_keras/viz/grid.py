"""Many samples in one picture: a column a sample, a row a picture of it."""

import functools
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mtl_keras.data.spec import DataSpec
from mtl_keras.viz import colors

_BACKGROUND = (255, 255, 255)
_INK = (32, 36, 44)
_FAINT_INK = (122, 128, 138)
_GAP = 4
_MARGIN = 10

_Array = np.ndarray
_Arrays = Mapping[str, np.ndarray]
# A row's title, its smaller second line, how its cells may be scaled, and its cells.
_Row = tuple[str, str, Image.Resampling, list[_Array]]


def prediction_grid(
    images: _Array,
    labels: _Arrays | None,
    predictions: _Arrays,
    spec: DataSpec,
    cell_width: tuple[int, int] = (160, 384),
) -> _Array:
    """A column a sample: the image, true and predicted semseg, true and predicted depth.

    Depth's colours are logarithmic over the range of the sample's true depth (the dataset's range where it has none),
    for both of its rows. A row whose label or prediction is absent is left out; of several predictions of a task, only
    the final one is shown.

    Args:
        images: RGB 0–255, (batch, height, width, 3).
        labels: `semseg` train ids (batch, height, width), `depth` metres (batch, height, width[, 1]); None if unknown.
        predictions: `semseg` logits (batch, height, width, classes) or ids (batch, height, width) and
            `depth` metres (batch, height, width[, 1]).
        spec: gives the palette and the depth range.
        cell_width: least and greatest width of a cell, in pixels; narrower or wider images are scaled into it.

    Returns:
        uint8 RGB, (height, width, 3).

    Raises:
        ValueError: there are no images, or labels or predictions are not as many as the images.
    """
    images = np.asarray(images)
    if images.ndim != 4 or not len(images):
        raise ValueError(f"images has shape {images.shape}: expected (batch of at least 1, height, width, 3).")
    for kind, parts in (("labels", labels or {}), ("predictions", predictions)):
        for task, part in parts.items():
            if len(part) != len(images):
                raise ValueError(f"{kind}[{task!r}] has {len(part)} samples: expected one an image, {len(images)}.")
    rows = _rows(images, labels or {}, predictions, spec)
    height, width = images.shape[1:3]
    scale = np.clip(width, *cell_width) / width
    return _compose(rows, (round(width * scale), max(1, round(height * scale))))


def _rows(images: _Array, labels: _Arrays, predictions: _Arrays, spec: DataSpec) -> list[_Row]:
    """The rows that there is something to show for, from top to bottom."""
    rows: list[_Row] = [("image", "", Image.Resampling.LANCZOS, [colors.to_uint8(image) for image in images])]

    def add(title: str, kind: str, parts: _Arrays, paint: Callable[[int, _Array], _Array]) -> None:
        if title in parts:
            cells = [paint(index, np.asarray(part)) for index, part in enumerate(parts[title])]
            rows.append((title, kind, Image.Resampling.NEAREST, cells))

    ranges = [spec.depth_range] * len(images)
    if "depth" in labels:
        ranges = [_range_of(metres, spec.depth_range) for metres in labels["depth"]]
    for kind, parts in (("true", labels), ("predicted", predictions)):
        add("semseg", kind, parts, lambda _, part: colors.colorize_semseg(_ids_of(part), spec))
    for kind, parts in (("true", labels), ("predicted", predictions)):
        add("depth", kind, parts, lambda index, part: colors.colorize_depth(part, ranges[index]))
    return rows


def _ids_of(semseg: _Array) -> _Array:
    return semseg.argmax(axis=-1) if semseg.ndim == 3 else semseg


def _range_of(metres: _Array, default: tuple[float, float]) -> tuple[float, float]:
    metres = colors.drop_channel(metres)
    metres = metres[colors.is_valid_depth(metres)]
    return (float(metres.min()), float(metres.max())) if metres.size else default


def _compose(rows: list[_Row], cell_size: tuple[int, int]) -> _Array:
    """Cells on a white page, titles turned along the left edge."""
    cell_width, cell_height = cell_size
    font_size = int(np.clip(cell_height / 8, 9, 16))
    left = _MARGIN + round(3.1 * font_size)
    columns = len(rows[0][-1])
    page = Image.new(
        "RGB",
        (
            left + columns * (cell_width + _GAP) - _GAP + _MARGIN,
            len(rows) * (cell_height + _GAP) - _GAP + 2 * _MARGIN,
        ),
        _BACKGROUND,
    )
    for index, (title, kind, resampling, cells) in enumerate(rows):
        y = _MARGIN + index * (cell_height + _GAP)
        page.paste(_turned_title(title, kind, (left - _MARGIN, cell_height), font_size), (_MARGIN, y))
        for column, cell in enumerate(cells):
            page.paste(_scaled(cell, cell_size, resampling), (left + column * (cell_width + _GAP), y))
    return np.asarray(page)


def _scaled(cell: _Array, size: tuple[int, int], resampling: Image.Resampling) -> Image.Image:
    picture = Image.fromarray(cell)
    if picture.size == size:
        return picture
    return picture.resize(size, Image.Resampling.NEAREST if picture.width < size[0] else resampling)


def _turned_title(title: str, kind: str, size: tuple[int, int], font_size: int) -> Image.Image:
    """A title, with its kind in faint ink below it, reading upwards in a strip of `size`."""
    width, height = size
    strip = Image.new("RGB", (height, width), _BACKGROUND)
    draw = ImageDraw.Draw(strip)
    for text, ink, line in ((title, _INK, 0 if kind else 1), (kind, _FAINT_INK, 1)):
        draw.text((height / 2, round((0.55 + 1.2 * line) * font_size)), text, ink, _font(font_size), anchor="mm")
    return strip.transpose(Image.Transpose.ROTATE_90)


@functools.cache
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
