"""Predictions as image files that other programs read."""

import numpy as np
from PIL import Image

from mtl_keras.data.depth_encoding import INVERSE_DEPTH_RANGE, encode_inverse_depth
from mtl_keras.data.images import encode
from mtl_keras.data.spec import DataSpec

# As KITTI's depth maps: metres times 256 in 16 bits, 0 for no depth.
DEPTH_UNITS_PER_METRE = 256
FARTHEST_DEPTH_16 = 65535 / DEPTH_UNITS_PER_METRE


def semseg_png(ids: np.ndarray, spec: DataSpec) -> bytes:
    """A palette PNG whose pixels are train ids, (height, width), in the dataset's colours; 255 is black."""
    picture = Image.fromarray(np.asarray(ids, np.uint8))
    picture.putpalette(np.asarray(spec.palette, np.uint8).tobytes().ljust(768, b"\0"))
    return encode(picture, format="PNG")


def depth_16_png(metres: np.ndarray) -> bytes:
    """A 16-bit grey PNG of metres × 256, (height, width), as KITTI has it.

    Farther than 255.996 m is 255.996 m; what is no number is no depth.
    """
    near = np.clip(np.nan_to_num(metres), 0, FARTHEST_DEPTH_16)
    codes = np.rint(near.astype(np.float64) * DEPTH_UNITS_PER_METRE)
    return encode(Image.fromarray(codes.astype(np.uint16)), format="PNG")


def fits_8_bits(spec: DataSpec) -> bool:
    """Whether all depth of a dataset lies within 4–300 m, which is what `depth_8_png` holds."""
    (nearest, farthest), (least, greatest) = INVERSE_DEPTH_RANGE, spec.depth_range
    return nearest <= least and greatest <= farthest


def depth_8_png(metres: np.ndarray) -> bytes:
    """An 8-bit grey PNG of quantised inverse depth, (height, width), as Miniscapes has it; clamped to 4–300 m."""
    return encode(Image.fromarray(encode_inverse_depth(metres, out_of_range="clamp")), format="PNG")
