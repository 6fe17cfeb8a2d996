"""PNG bytes and picture files, each written beside its place and renamed into it, so that none is ever half there."""

import os
import pathlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mtl_keras.data.images import encode
from mtl_keras.files import replacing, write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# What matplotlib would write of itself and of the time.
_TIMELESS = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Producer": None},
    "svg": {"Date": None},
}


def encode_png(array: np.ndarray) -> bytes:
    """The bytes of a PNG file.

    Args:
        array: uint8 pixels, (height, width[, 1]) grey, (height, width, 3) RGB or (height, width, 4) RGBA.

    Raises:
        ValueError: the array is not uint8, or has another shape.
    """
    array = np.asarray(array)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    is_picture = array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in (3, 4))
    if array.dtype != np.uint8 or not is_picture:
        raise ValueError(
            f"A picture of {array.dtype} {array.shape} cannot be written as PNG: "
            "expected uint8 of (height, width) or (height, width, 1, 3 or 4 channels)."
        )
    return encode(Image.fromarray(array), format="PNG")


def save_png(path: str | os.PathLike, array: np.ndarray) -> None:
    """Writes the pixels (see `encode_png`) to `path`, in whose place there is at every moment a whole file or none."""
    write_bytes(path, encode_png(array))


def save_figure(path: str | os.PathLike, figure: "Figure", dpi: int = 160) -> None:
    """Writes a matplotlib figure as `save_png` writes pixels, the same bytes every time.

    Args:
        path: the suffix (.png, .svg, .pdf) sets the format; PNG without one.
        figure: what to write.
        dpi: pixels an inch.
    """
    suffix = pathlib.Path(path).suffix.lstrip(".") or "png"
    with replacing(path) as beside:
        figure.savefig(beside, dpi=dpi, format=suffix, metadata=_TIMELESS.get(suffix))
