"""One homography for all modalities, and changes of colour."""

from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from mtl_keras.data.spec import IGNORE_LABEL


def warp_window(sample: dict[str, Any], corners: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    """Resamples a four-sided window of a sample to a rectangle.

    Args:
        sample: a decoded sample.
        corners: (4, 2) x, y of the window in the image, in pixels, where the top-left pixel covers 0–1: top-left,
            top-right, bottom-right, bottom-left.
        size: (height, width) of the result.

    Returns:
        The sample with `image` resampled bilinearly, `semseg` and `depth_codes` by nearest neighbour; black, ignore
        and invalid where the window leaves the image.
    """
    coefficients = homography(corners, size)
    return sample | {
        "image": _resample(sample["image"], coefficients, size, Image.Resampling.BILINEAR, (0, 0, 0)),
        "semseg": _resample(sample["semseg"], coefficients, size, Image.Resampling.NEAREST, IGNORE_LABEL),
        "depth_codes": _resample(sample["depth_codes"], coefficients, size, Image.Resampling.NEAREST, 0),
    }


def homography(corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The eight coefficients that take a result's x, y to the image: ((ax + by + c)/(gx + hy + 1), (dx + ey + f)/…).

    Args:
        corners: (4, 2) as for `warp_window`.
        size: (height, width) of the result.
    """
    height, width = size
    rows, values = [], []
    targets = [(0, 0), (width, 0), (width, height), (0, height)]
    for (x, y), (u, v) in zip(targets, np.asarray(corners, np.float64), strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return np.linalg.solve(np.array(rows, np.float64), np.array(values))


def photometric_jitter(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Changes brightness, contrast and saturation by factors of 1 ± `strength`.

    Args:
        image: (H, W, 3) uint8.
        strength: at most 1.
        rng: draws the factors.
    """
    picture = Image.fromarray(np.ascontiguousarray(image))
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = enhance(picture).enhance(rng.uniform(1 - strength, 1 + strength))
    return np.asarray(picture)


def _resample(array, coefficients, size, resampling, fill) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(array))
    warped = image.transform(
        (size[1], size[0]), Image.Transform.PERSPECTIVE, coefficients.tolist(), resampling, fillcolor=fill
    )
    return np.asarray(warped)
