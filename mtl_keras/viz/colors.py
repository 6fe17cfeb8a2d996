"""Class ids and metres as colours."""

import functools

import numpy as np

from mtl_keras.data.spec import DataSpec

CHECKERBOARD_GREYS = (176, 200)
CHECKERBOARD_CELL = 8

# The depth colour map's way through OKLCh (lightness, chroma, hue in degrees), from near to far.
_DEPTH_ANCHORS = ((0.96, 0.09, 105.0), (0.80, 0.16, 65.0), (0.60, 0.20, 20.0), (0.40, 0.17, -35.0), (0.20, 0.09, -85.0))

# From OKLab to the cube roots of LMS, and from LMS to linear sRGB (B. Ottosson, "A perceptual color space for image
# processing", 2020, https://bottosson.github.io/posts/oklab).
_OKLAB_TO_LMS_ROOTS = np.array(
    [[1.0, 0.3963377774, 0.2158037573], [1.0, -0.1055613458, -0.0638541728], [1.0, -0.0894841775, -1.2914855480]]
)
_LMS_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def colorize_semseg(ids: np.ndarray, spec: DataSpec) -> np.ndarray:
    """The dataset's colours for class ids.

    Args:
        ids: integer train ids, (..., height, width); the ignore label and any id outside the classes become black.
        spec: gives the palette.

    Returns:
        uint8 RGB, (..., height, width, 3).
    """
    ids = np.asarray(ids)
    black = spec.num_classes
    table = np.zeros((spec.num_classes + 1, 3), np.uint8)
    table[:black] = spec.palette
    return table[np.where(known_ids(ids, spec), ids, black).astype(np.intp)]


def colorize_depth(metres: np.ndarray, depth_range: tuple[float, float]) -> np.ndarray:
    """A perceptual colour map on a logarithmic scale, pale yellow at the near end and dark blue at the far one.

    Equal ratios of depth are equal steps in OKLab, so 5 m to 10 m looks as far as 50 m to 100 m.

    Args:
        metres: depth in metres, (..., height, width) or (..., height, width, 1).
        depth_range: depth in metres at the two ends, (near, far), both positive; depth outside takes the end's colour.

    Returns:
        uint8 RGB, (..., height, width, 3); where depth is not positive and finite, a grey checkerboard.

    Raises:
        ValueError: the range is not 0 < near <= far < infinity.
    """
    near, far = depth_range
    if not 0 < near <= far < np.inf:
        raise ValueError(f"depth_range is {depth_range}: expected 0 < near <= far, in metres.")
    metres = drop_channel(metres)
    valid = is_valid_depth(metres)
    # Where all depth is the same, any scale shows one colour; the octave around it shows the middle one.
    if near == far:
        near, far = near / np.sqrt(2), far * np.sqrt(2)
    position = np.log(np.where(valid, metres, near) / near) / np.log(far / near)
    table = depth_color_table()
    colors = table[np.rint(np.clip(position, 0, 1) * (len(table) - 1)).astype(np.intp)]
    return np.where(valid[..., None], colors, _checkerboard(*metres.shape[-2:])[..., None])


def overlay(image: np.ndarray, semseg: np.ndarray, spec: DataSpec, alpha: float = 0.5) -> np.ndarray:
    """Class colours laid over the image; ignored pixels show the image alone.

    Args:
        image: RGB 0–255, (height, width, 3).
        semseg: train ids, (height, width).
        spec: gives the palette.
        alpha: weight of the colours, 0–1.

    Returns:
        uint8 RGB, (height, width, 3).
    """
    weight = alpha * known_ids(np.asarray(semseg), spec)[..., None]
    blend = (1 - weight) * np.asarray(image, np.float32) + weight * colorize_semseg(semseg, spec)
    return to_uint8(blend)


def known_ids(ids: np.ndarray, spec: DataSpec) -> np.ndarray:
    """Where the ids name a class."""
    return (ids >= 0) & (ids < spec.num_classes)


def is_valid_depth(metres: np.ndarray) -> np.ndarray:
    """Where depth is a positive, finite number of metres."""
    return np.isfinite(metres) & (metres > 0)


def drop_channel(metres: np.ndarray) -> np.ndarray:
    """Depth as float32 without its channel axis, if it has one."""
    metres = np.asarray(metres, np.float32)
    return metres[..., 0] if metres.ndim > 2 and metres.shape[-1] == 1 else metres


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Pixels of any dtype, 0–255, rounded and clipped."""
    image = np.asarray(image)
    return image if image.dtype == np.uint8 else np.clip(np.rint(image), 0, 255).astype(np.uint8)


@functools.cache
def depth_color_table() -> np.ndarray:
    """The depth colour map: uint8 RGB, (256, 3), from near to far, in equal steps of OKLab."""
    lightness, chroma, hue = _smooth(np.array(_DEPTH_ANCHORS), 4096).T
    hue = np.radians(hue)
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1)
    travelled = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(lab, axis=0), axis=-1))])
    even = np.linspace(0, travelled[-1], 256)
    lab = np.stack([np.interp(even, travelled, channel) for channel in lab.T], axis=-1)
    linear = np.clip((lab @ _OKLAB_TO_LMS_ROOTS.T) ** 3 @ _LMS_TO_RGB.T, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    table = to_uint8(255 * srgb)
    table.flags.writeable = False
    return table


def _smooth(anchors: np.ndarray, count: int) -> np.ndarray:
    """`count` points of the polynomial through the anchors."""
    positions = np.linspace(-1, 1, len(anchors))
    coefficients = np.polynomial.polynomial.polyfit(positions, anchors, len(anchors) - 1)
    return np.polynomial.polynomial.polyval(np.linspace(-1, 1, count), coefficients).T


def _checkerboard(height: int, width: int) -> np.ndarray:
    rows, columns = np.arange(height) // CHECKERBOARD_CELL, np.arange(width) // CHECKERBOARD_CELL
    return np.array(CHECKERBOARD_GREYS, np.uint8)[(rows[:, None] + columns) % 2]
