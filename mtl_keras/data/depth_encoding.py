"""How depth is kept in 8- and 16-bit images, and how it becomes metres again.

Three encodings are known, and each keeps 0 for pixels without depth:

- `"inverse"`: the 8-bit inverse depth of Miniscapes, from 4 m (code 255) to 300 m (code 1).
- `"disparity"`: the 16-bit disparity of Cityscapes; `scale` is baseline · focal length, in metre · pixels.
- `"linear"`: metres are code · `scale`, such as 0.001 for millimetres or 1/256.
"""

import functools
from typing import Any

import numpy as np

ENCODINGS = ("inverse", "disparity", "linear")

INVERSE_DEPTH_RANGE = (4.0, 300.0)
_FARTHEST_INVERSE = 1.0 / INVERSE_DEPTH_RANGE[1]
_NEAREST_INVERSE = 1.0 / INVERSE_DEPTH_RANGE[0]
_INVERSE_STEPS = 254

# No code times these leaves float32.
_LEAST, _GREATEST = 1e-30, 1e30
# Metres are a product of rounded numbers; neighbouring codes lie at least thirty times as far apart.
_ROUNDING = 4 * 2.0**-23

SCALE_RULE = f"a positive number, {_LEAST:g} to {_GREATEST:g}"
RANGE_RULE = "two rising numbers of metres, finite and greater than 0"


def is_scale(value: Any) -> bool:
    """Whether a value follows `SCALE_RULE`."""
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return is_number and bool(_LEAST <= value <= _GREATEST)


def is_range(limits: Any) -> bool:
    """Whether a value follows `RANGE_RULE`."""
    is_pair = isinstance(limits, tuple | list) and len(limits) == 2 and all(map(is_scale, limits))
    return is_pair and bool(limits[0] < limits[1])


def encode_inverse_depth(metres: np.ndarray, out_of_range: str = "invalidate") -> np.ndarray:
    """Encodes metres as the 8-bit inverse depth of Miniscapes, rounded to the nearest code.

    Plain truncation, as Miniscapes itself used, loses 35–41 of the 256 codes on the way back and forth; with rounding
    every code survives.

    Args:
        metres: depth of any shape, in metres; zero, negative and non-finite values are invalid.
        out_of_range: what becomes of valid depth outside 4–300 m: `"invalidate"` makes it 0, `"clamp"` moves it to the
            nearest end of the range.

    Returns:
        uint8 codes of the same shape, 0 where there is no depth.

    Raises:
        ValueError: `out_of_range` is neither policy.
    """
    if out_of_range not in ("invalidate", "clamp"):
        raise ValueError(f'out_of_range is "{out_of_range}": expected "invalidate" or "clamp"')
    metres = np.asarray(metres, np.float64)
    nearest, farthest = INVERSE_DEPTH_RANGE
    valid = np.isfinite(metres) & (metres > 0)
    if out_of_range == "invalidate":
        valid &= (metres >= nearest) & (metres <= farthest)
    inverse = 1.0 / np.clip(np.where(valid, metres, farthest), nearest, farthest)
    codes = 1 + _INVERSE_STEPS * (inverse - _FARTHEST_INVERSE) / (_NEAREST_INVERSE - _FARTHEST_INVERSE)
    return np.where(valid, np.rint(codes), 0).astype(np.uint8)


def decode_depth(
    codes: np.ndarray,
    encoding: str,
    scale: float = 1.0,
    depth_range: tuple[float, float] | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Turns stored codes into metres.

    Args:
        codes: uint8 or uint16 codes of any shape.
        encoding: `"inverse"`, `"disparity"` or `"linear"` (see the module).
        scale: metre · pixels (baseline · focal length) for `"disparity"`, metres a unit for `"linear"`, a plain factor
            for `"inverse"`.
        depth_range: least and greatest metres; depth outside becomes invalid. The ends are inside, and metres that
            only rounding takes beyond an end become that end. None keeps all.
        out: float32 array of the same shape to write into.

    Returns:
        float32 metres of the shape of `codes`, 0 where there is no depth.

    Raises:
        ValueError: the encoding is unknown, or `"inverse"` codes are not 8-bit.
    """
    codes = np.asarray(codes)
    if encoding == "inverse" and codes.dtype != np.uint8:
        raise ValueError(f"inverse-depth codes are {codes.dtype}: expected uint8")
    metres = np.take(unit_depth(encoding), codes, out=out, mode="clip")
    if scale != 1:
        metres *= np.float32(scale)
    if depth_range is not None and not _table_fits(encoding, scale, depth_range):
        low, high = depth_range
        outside = (metres < low * (1 - _ROUNDING)) | (metres > high * (1 + _ROUNDING))
        np.clip(metres, low, high, out=metres)
        metres[outside] = 0
    return metres


@functools.cache
def unit_depth(encoding: str) -> np.ndarray:
    """The metres of every code at scale 1, as a read-only float32 table.

    Raises:
        ValueError: the encoding is unknown.
    """
    if encoding == "inverse":
        steps = np.arange(-1, 255) / _INVERSE_STEPS
        table = 1.0 / ((_NEAREST_INVERSE - _FARTHEST_INVERSE) * steps + _FARTHEST_INVERSE)
    elif encoding == "disparity":
        disparity = np.arange(-1, 65535) / 256
        table = np.divide(1.0, disparity, out=np.zeros(65536), where=disparity > 0)
    elif encoding == "linear":
        table = np.arange(65536, dtype=np.float64)
    else:
        raise ValueError(f'depth encoding "{encoding}": expected one of {", ".join(ENCODINGS)}')
    table = table.astype(np.float32)
    table[0] = 0
    table.flags.writeable = False
    return table


def _table_fits(encoding: str, scale: float, depth_range: tuple[float, float]) -> bool:
    """Whether no code of the encoding can leave the range, so that nothing needs to be looked at."""
    low, high = INVERSE_DEPTH_RANGE
    return encoding == "inverse" and scale == 1 and depth_range[0] <= low and depth_range[1] >= high
