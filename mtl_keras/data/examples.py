"""The one stored example that every dataset shares."""

import dataclasses
import functools
import struct
from typing import Any

import numpy as np

from mtl_keras.data import images
from mtl_keras.data.depth_encoding import decode_depth
from mtl_keras.data.spec import IGNORE_LABEL

ENCODED_IMAGES = ("image", "semseg", "depth")


@dataclasses.dataclass(frozen=True)
class Example:
    """A sample as it is stored: encoded images, so that a dataset is small and is written once.

    Args:
        id: the sample's name within its split.
        image: RGB, JPEG or PNG bytes.
        semseg: train ids, 8-bit grey PNG bytes, 255 = ignore.
        depth: codes, 8- or 16-bit grey PNG bytes, 0 = invalid.
        depth_scale: what the depth encoding multiplies by (see `depth_encoding`).
        depth_sums: count, sum and sum of squares of the valid metres, from which a split's mean and standard deviation
            are made while it is written.
    """

    id: str
    image: bytes
    semseg: bytes
    depth: bytes
    depth_scale: float
    depth_sums: tuple[int, float, float]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), from the header of its labels."""
        width, height = struct.unpack(">II", self.semseg[16:24])
        return height, width

    @property
    def tasks(self) -> set[str]:
        """What it has a label of, "semseg" and "depth"; an image that is all ignore or all invalid is none."""
        has = {"semseg": self.semseg != missing_semseg(*self.size), "depth": self.depth_sums[0] > 0}
        return {task for task, is_there in has.items() if is_there}

    def features(self) -> dict[str, Any]:
        """What TFDS stores."""
        return {
            "id": self.id,
            "image": self.image,
            "semseg": self.semseg,
            "depth": self.depth,
            "depth_scale": np.float32(self.depth_scale),
        }


def features() -> Any:
    """The TFDS features of a stored example."""
    import tensorflow_datasets as tfds

    return tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(None, None, 3)),
            "semseg": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
            "depth": tfds.features.Image(shape=(None, None, 1), dtype=np.uint16, encoding_format="png"),
            "depth_scale": np.float32,
        }
    )


def decode_example(stored: dict[str, Any]) -> dict[str, Any]:
    """Decodes a stored example with Pillow.

    Returns:
        `id` str, `image` (H, W, 3) uint8, `semseg` (H, W) uint8, `depth_codes` (H, W) uint8 or uint16 and
        `depth_scale` float.
    """
    return {
        "id": stored["id"].decode(),
        "image": images.decode_pixels(stored["image"]),
        "semseg": images.decode_pixels(stored["semseg"]),
        "depth_codes": images.decode_pixels(stored["depth"]),
        "depth_scale": float(stored["depth_scale"]),
    }


def depth_sums(
    codes: np.ndarray, encoding: str, scale: float, depth_range: tuple[float, float]
) -> tuple[int, float, float]:
    """Count, sum and sum of squares of the valid metres, in float64."""
    metres = decode_depth(codes, encoding, scale, depth_range).astype(np.float64)
    metres = metres[metres > 0]
    return metres.size, float(metres.sum()), float(np.square(metres).sum())


@functools.lru_cache(maxsize=16)
def missing_semseg(height: int, width: int) -> bytes:
    """The stored label of a sample without semseg: all ignore."""
    return images.encode_png(np.full((height, width), IGNORE_LABEL, np.uint8))


@functools.lru_cache(maxsize=16)
def missing_depth(height: int, width: int, dtype: type = np.uint8) -> bytes:
    """The stored label of a sample without depth: all invalid."""
    return images.encode_png(np.zeros((height, width), dtype))
