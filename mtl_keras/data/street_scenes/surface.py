"""The samples that share a material, with all that a texture may ask of them."""

import dataclasses

import numpy as np

from mtl_keras.data.street_scenes import noise
from mtl_keras.data.street_scenes.mesh import Faces


@dataclasses.dataclass
class Surface:
    """Samples of faces of one material; every array's last axis is the sample, all float32.

    Args:
        faces: all faces of the scene.
        face: the face of every sample.
        across: place on the face from left to right, 0 to 1.
        up: place from bottom to top, 0 to 1.
        width: the face's width in metres.
        height: the face's height in metres.
        position: (3, samples) world metres.
        spacing: metres between neighbouring samples at that distance.
    """

    faces: Faces
    face: np.ndarray
    across: np.ndarray
    up: np.ndarray
    width: np.ndarray
    height: np.ndarray
    position: np.ndarray
    spacing: np.ndarray

    def __post_init__(self):
        self.u, self.v = self.across * self.width, self.up * self.height
        self.colour = np.take(self.faces.colours, self.face, axis=1)
        self.glow: np.ndarray | None = None

    @property
    def accent(self) -> np.ndarray:
        return np.take(self.faces.accents, self.face, axis=1)

    def parameter(self, number: int) -> np.ndarray:
        return np.take(self.faces.parameters[number], self.face)

    def fade(self, detail: float) -> np.ndarray:
        """1 where a detail of so many metres is resolved, falling to 0 where it would only flicker."""
        return np.clip(np.float32(detail) / self.spacing - np.float32(1), 0, 1)

    def fractal(self, u: np.ndarray, v: np.ndarray, cell: float) -> np.ndarray:
        """Smooth noise from −0.5 to 0.5 with a finest cell of so many metres."""
        scale = np.float32(1 / cell)
        return noise.look_up(noise.fractal_tile(), u * scale, v * scale) - np.float32(0.5)

    def grain(self, u: np.ndarray, v: np.ndarray, cell: float) -> np.ndarray:
        """Rough noise from −0.5 to 0.5, faded where its cells are not resolved."""
        scale = np.float32(1 / cell)
        return (noise.look_up(noise.grain_tile(), u * scale, v * scale) - np.float32(0.5)) * self.fade(cell)


def mix(first: np.ndarray, second, weight: np.ndarray) -> np.ndarray:
    """From `first` (3, samples) to `second` (a colour, or 3, samples) by a weight a sample."""
    if not isinstance(second, np.ndarray):
        second = np.array(second, np.float32)[:, None]
    return first + (second - first) * weight


def repeat(coordinate: np.ndarray, period: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """The number of the period that a coordinate lies in, and its place there from 0 to 1."""
    turns = coordinate / period
    whole = np.floor(turns)
    return whole, turns - whole
