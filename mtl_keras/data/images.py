"""Reading and writing the images of a sample, with a reason for every file that cannot be used."""

import contextlib
import io
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from mtl_keras.data import png
from mtl_keras.errors import on_one_line

MAX_SIDE = 8192
# More than any image of 8192 px a side needs, and little enough that a forged file cannot fill the memory.
MAX_BYTES = 512 * 2**20

_FORMATS = ("PNG", "JPEG")
_GREYS = [level for level in range(256) for _ in "rgb"]
_BOMB = f"larger than {MAX_SIDE} px a side"


def is_size(size: Any) -> bool:
    """Whether it is a height and a width in whole pixels, each at least 1."""
    is_pair = isinstance(size, tuple | list) and len(size) == 2
    return is_pair and all(isinstance(side, int | np.integer) and side >= 1 for side in size)


class BadFile(Exception):
    """A file that cannot be used, with the reason.

    Args:
        path: the file, as the user knows it.
        reason: what is wrong with it, in a few words.
    """

    def __init__(self, path: object, reason: str):
        super().__init__(str(path), reason)
        self.path = str(path)
        self.reason = on_one_line(reason)

    def __str__(self) -> str:
        return f"{on_one_line(self.path)}: {self.reason}"


def open_image(data: bytes, path: object) -> Image.Image:
    """Decodes a PNG or JPEG completely.

    Args:
        data: the file's bytes.
        path: what to call it in an error.

    Raises:
        BadFile: empty, not an image, larger than 8192 px a side, truncated or damaged. The size is read from the
            header, so a decompression bomb is refused before it is decoded.
    """
    if not data:
        raise BadFile(path, "empty")
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError as error:
        raise BadFile(path, "not a PNG or JPEG image") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadFile(path, _BOMB) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise BadFile(path, f"damaged ({error})") from error
    if max(image.size) > MAX_SIDE:
        raise BadFile(path, f"{image.height}×{image.width} px, {_BOMB}")
    try:
        image.load()
    except Exception as error:  # Pillow's decoders raise many types on damaged data, struct.error among them
        raise BadFile(path, f"truncated or damaged ({error})") from error
    return image


def read_file(path: str | os.PathLike) -> bytes:
    """The file's bytes.

    Raises:
        BadFile: it cannot be read, is a pipe or a device, which may never end, or has more than 512 MiB.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise BadFile(path, "a folder" if stat.S_ISDIR(status.st_mode) else "not a file")
        if status.st_size > MAX_BYTES:
            raise BadFile(path, f"{status.st_size} bytes, expected at most {MAX_BYTES}")
        return Path(path).read_bytes()
    except OSError as error:
        raise BadFile(path, error.strerror or str(error)) from error


def open_png(data: bytes, path: object) -> Image.Image:
    """Opens a PNG file whose numbers mean something: JPEG would change them, and fewer than 8 bits of grey are scaled.

    Raises:
        BadFile: it is neither.
    """
    image = _open_whole(data, path)
    if image.format != "PNG":
        raise BadFile(path, f"{image.format}, expected PNG")
    # The header's bits a pixel, and its kind of colours.
    bits, colors = data[24:26]
    if colors == 0 and bits < 8:
        raise BadFile(path, f"{bits}-bit grey, expected 8 bits or more")
    return image


def read_rgb(data: bytes, path: object) -> np.ndarray:
    """Decodes an image that labels can lie on: (H, W, 3) uint8.

    Raises:
        BadFile: it is not 8-bit RGB, or is to be turned for display, which labels do not follow.
    """
    image = _open_whole(data, path)
    require_mode(image, ("RGB",), "8-bit RGB", path)
    orientation = 1
    with contextlib.suppress(Exception):  # a broken tag raises what its bytes lead to, and turns nothing
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    if orientation != 1:
        raise BadFile(path, f"EXIF orientation {orientation}, which labels do not follow, expected upright pixels")
    return np.asarray(image)


def _open_whole(data: bytes, path: object) -> Image.Image:
    """Opens an image as `open_image` does, and refuses a PNG file that lacks pixels."""
    image = open_image(data, path)
    if image.format == "PNG" and (reason := png.fault(data)):
        raise BadFile(path, reason)
    return image


def read_labels(data: bytes, path: object) -> np.ndarray:
    """Decodes the numbers of a label image: (H, W) uint8.

    Raises:
        BadFile: it is not a PNG file in 8-bit grey or with a palette.
    """
    image = open_png(data, path)
    require_mode(image, ("L", "P"), "8-bit grey or palette", path)
    return np.asarray(image)


def require_mode(image: Image.Image, modes: tuple[str, ...], expected: str, path: object) -> None:
    """Refuses an image of another pixel mode.

    Raises:
        BadFile: the mode is not among `modes`; the reason names `expected`.
    """
    if image.mode not in modes:
        raise BadFile(path, f"mode {image.mode}, expected {expected}")


def decode_pixels(data: bytes) -> np.ndarray:
    """The pixels of a stored image: (H, W) or (H, W, 3), uint8 or uint16; a palette's numbers, not its colours."""
    return pixels(Image.open(io.BytesIO(data), formats=_FORMATS))


def pixels(image: Image.Image) -> np.ndarray:
    """A Pillow image as an array; 16-bit grey becomes uint16 under each of Pillow's names for it."""
    array = np.asarray(image)
    return array.astype(np.uint16) if image.mode.startswith("I") else array


def encode_png(array: np.ndarray) -> bytes:
    """PNG bytes of (H, W) uint8 or uint16, or (H, W, 3) uint8.

    8-bit grey is written with a palette of greys: Pillow leaves such rows unfiltered, and they decode in half the time.
    """
    image = Image.fromarray(array)
    if image.mode == "L":
        image.putpalette(_GREYS)
    return encode(image, format="PNG", compress_level=6 if image.mode == "P" else 4)


def encode_jpeg(array: np.ndarray) -> bytes:
    """JPEG bytes of (H, W, 3) uint8, at quality 95 with full colour resolution."""
    return encode(Image.fromarray(array), format="JPEG", quality=95, subsampling=0)


def encode(image: Image.Image, **options) -> bytes:
    """The bytes of the file that Pillow would save with these options."""
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()
