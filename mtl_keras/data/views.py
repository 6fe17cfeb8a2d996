"""What a model sees of a sample: a random window in training, the whole image in evaluation.

A view is called with a decoded sample and a random generator and returns the same keys. Whatever comes from outside the
image is black, ignore and invalid.
"""

import dataclasses
from typing import Any, Protocol

import numpy as np

from mtl_keras.data.images import is_size
from mtl_keras.data.warp import photometric_jitter, warp_window
from mtl_keras.errors import UserError

Sample = dict[str, Any]

# The reference's, which suits every output stride.
_MULTIPLE = 32


class View(Protocol):
    """Cuts, and may warp, what a model sees of a sample."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample: ...

    def output_size(self, height: int, width: int) -> tuple[int, int]: ...


@dataclasses.dataclass(frozen=True)
class TrainView:
    """A random window of each image, with the optional warps of the reference, all off by default.

    Without a warp the window is a slice: nothing is copied and the rest of the image is not touched. With any of
    scaling, tilt or wiggle, one homography takes the window's four corners to the crop's, for all modalities: RGB
    bilinear, labels and depth nearest.

    Args:
        crop: (height, width) of the result in pixels.
        window_scaling: the window's sides are drawn between 1/(1 + s) and 1 + s times the crop's, evenly in the
            logarithm; 0 is off.
        tilt: the window is turned by up to this many degrees; 0 is off.
        corner_wiggle: each corner of the window moves by up to this fraction of its sides; 0 is off, and by more than
            a quarter the window could fold.
        horizontal_flip: mirrors a sample with probability 1/2.
        photometric_jitter: brightness, contrast and saturation change by up to this fraction; 0 is off.
        scale_depth: metric depth follows the zoom of `window_scaling`: what looks twice as large is half as far.

    Raises:
        UserError: a value out of its range, or `scale_depth` without `window_scaling`.
    """

    crop: tuple[int, int] = (256, 256)
    window_scaling: float = 0.0
    tilt: float = 0.0
    corner_wiggle: float = 0.0
    horizontal_flip: bool = False
    photometric_jitter: float = 0.0
    scale_depth: bool = False

    def __post_init__(self):
        if not is_size(self.crop):
            raise UserError(f"crop {self.crop}: expected height and width in whole pixels, each at least 1")
        for name, most in (("window_scaling", 8), ("tilt", 180), ("corner_wiggle", 0.25), ("photometric_jitter", 1)):
            if not 0 <= getattr(self, name) <= most:
                raise UserError(f"{name} {getattr(self, name)}: expected 0 (off) to {most}")
        if self.scale_depth and not self.window_scaling:
            raise UserError("scale_depth is of use with window_scaling alone: add --window_scaling=1, or leave it out")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Draws a window.

        Raises:
            UserError: the image is smaller than the crop.
        """
        height, width = sample["image"].shape[:2]
        self.output_size(height, width)
        if self.window_scaling or self.tilt or self.corner_wiggle:
            view = self._warped(sample, height, width, rng)
        else:
            top, left = int(rng.integers(height - self.crop[0] + 1)), int(rng.integers(width - self.crop[1] + 1))
            view = cut(sample, top, left, *self.crop)
        if self.horizontal_flip and rng.random() < 0.5:
            view = flip(view)
        if self.photometric_jitter:
            view["image"] = photometric_jitter(view["image"], self.photometric_jitter, rng)
        return view

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the result for an image of this size.

        Raises:
            UserError: the image is smaller than the crop.
        """
        if height < self.crop[0] or width < self.crop[1]:
            raise UserError(
                f"the image is {height}×{width} px, smaller than the crop of {self.crop[0]}×{self.crop[1]}: "
                "choose a smaller crop"
            )
        return self.crop

    def _warped(self, sample: Sample, height: int, width: int, rng: np.random.Generator) -> Sample:
        limit = np.log1p(self.window_scaling)
        zoom = float(np.exp(rng.uniform(-limit, limit)))
        sides = zoom * np.array(self.crop[::-1], np.float64)
        room = np.array([width, height]) - sides
        origin = rng.uniform(np.minimum(room, 0), np.maximum(room, 0))
        angle = np.deg2rad(rng.uniform(-self.tilt, self.tilt))
        wiggle = rng.uniform(-self.corner_wiggle, self.corner_wiggle, (4, 2)) * sides
        unit_corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) - 0.5
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        corners = (unit_corners * sides) @ turn + wiggle + origin + sides / 2
        view = warp_window(sample, corners, self.crop)
        if self.scale_depth:
            view["depth_scale"] = sample["depth_scale"] * zoom
        return view


class EvalView:
    """The whole image, cut from the top-left corner to multiples of 32 pixels."""

    def __call__(self, sample: Sample, rng: np.random.Generator | None = None) -> Sample:
        """Cuts; nothing is random."""
        del rng
        return cut(sample, 0, 0, *self.output_size(*sample["image"].shape[:2]))

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the result for an image of this size.

        Raises:
            UserError: the image is smaller than 32 pixels a side.
        """
        size = height // _MULTIPLE * _MULTIPLE, width // _MULTIPLE * _MULTIPLE
        if not all(size):
            raise UserError(f"the image is {height}×{width} px: expected at least {_MULTIPLE} a side")
        return size


def cut(sample: Sample, top: int, left: int, height: int, width: int) -> Sample:
    """A window of all modalities, as slices that share the sample's memory."""
    window = np.s_[top : top + height, left : left + width]
    return sample | {name: sample[name][window] for name in ("image", "semseg", "depth_codes")}


def flip(sample: Sample) -> Sample:
    """Mirrors all modalities, left to right, as copies: later passes over reversed pixels would cost more."""
    image = np.empty_like(sample["image"], order="C")
    for channel in range(image.shape[2]):  # eight times as fast as all channels at once
        image[..., channel] = sample["image"][:, ::-1, channel]
    labels = {name: np.ascontiguousarray(sample[name][:, ::-1]) for name in ("semseg", "depth_codes")}
    return sample | labels | {"image": image}
