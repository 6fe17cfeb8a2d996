"""A pinhole camera in a world with x to the right, y up and z along the street, in metres."""

import dataclasses
import functools

import numpy as np

from mtl_keras.data.street_scenes.draws import Draw, cosine_sine

# Samples lie half a pixel apart, from one edge of the picture to the other, so every second one is a pixel's centre.
SAMPLES_PER_PIXEL = 2


@dataclasses.dataclass(frozen=True)
class Camera:
    """Where the camera is and how it looks.

    Args:
        height: rows of the picture.
        width: columns of the picture.
        focal: focal length in pixels.
        position: (3,) the optical centre in the world.
        axes: (3, 3) rows are the world directions of the picture's right, its down and the optical axis.
    """

    height: int
    width: int
    focal: float
    position: np.ndarray
    axes: np.ndarray

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """World points (..., 3) to camera coordinates (..., 3): right, down, depth."""
        return self.turn(points - self.position)

    def turn(self, directions: np.ndarray) -> np.ndarray:
        """World directions (..., 3) to camera directions (..., 3), by sums in a fixed order."""
        x, y, z = directions[..., 0], directions[..., 1], directions[..., 2]
        return np.stack([x * axis[0] + y * axis[1] + z * axis[2] for axis in self.axes], axis=-1)

    @functools.cached_property
    def columns(self) -> np.ndarray:
        """Sideways slope of the ray through every column of samples: (2·width + 1,) float64."""
        count = SAMPLES_PER_PIXEL * self.width + 1
        return (np.arange(count) / SAMPLES_PER_PIXEL - self.width / 2) / self.focal

    @functools.cached_property
    def rows(self) -> np.ndarray:
        """Downward slope of the ray through every row of samples: (2·height + 1,) float64."""
        count = SAMPLES_PER_PIXEL * self.height + 1
        return (np.arange(count) / SAMPLES_PER_PIXEL - self.height / 2) / self.focal


def draw_camera(draw: Draw, height: int, width: int, sideways: float) -> Camera:
    """A dash camera `sideways` metres from the street's axis, a little pitched, rolled and turned."""
    position = np.array([sideways, draw.uniform(1.2, 2.1), 0.0])
    focal = width * draw.uniform(0.78, 1.15)
    axes = np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]])
    for first, second, reach in ((0, 2, 0.07), (1, 2, 0.06), (0, 1, 0.025)):
        cosine, sine = cosine_sine(draw.uniform(-reach, reach))
        axes[[first, second]] = (
            cosine * axes[first] + sine * axes[second],
            cosine * axes[second] - sine * axes[first],
        )
    return Camera(height, width, focal, position, axes)
