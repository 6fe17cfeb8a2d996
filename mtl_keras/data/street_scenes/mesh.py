"""What a scene is made of: flat faces with a label, a material and a silhouette."""

import dataclasses
import enum
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mtl_keras.data.street_scenes.draws import Colour

IGNORE = 255
(ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN, VEGETATION, TERRAIN, SKY, PERSON, RIDER, CAR,
 TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE) = range(19)  # fmt: skip
PARAMETERS = 6


class Shape(enum.IntEnum):
    """The silhouette cut out of a face."""

    POLYGON = 0
    DISC = 1
    OCTAGON = 2
    LEAVES = 3
    HEDGE = 4
    PICKETS = 5
    RAILS = 6


class Material(enum.IntEnum):
    """The texture painted on a face."""

    PLAIN = 0
    ASPHALT = 1
    PAVING = 2
    GRASS = 3
    FACADE = 4
    ROOF = 5
    MASONRY = 6
    PLANKS = 7
    LEAVES = 8
    CAR_SIDE = 9
    CAR_END = 10
    GLASS = 11
    COACH_SIDE = 12
    COACH_END = 13
    CARGO = 14
    WHEEL = 15
    SIGN = 16
    SIGNAL = 17
    CLOTH = 18


class Look(NamedTuple):
    """How a face appears: train id, texture, two colours and what the texture wants to know."""

    label: int
    colour: Colour
    material: Material = Material.PLAIN
    accent: Colour = (0.1, 0.1, 0.1)
    parameters: tuple[float, ...] = ()
    shape: Shape = Shape.POLYGON
    # How far the shading pretends that the flat face bulges, sideways and upwards: 0 flat, 1 a full round.
    bulge: tuple[float, float] = (0.0, 0.0)
    two_sided: bool = False


class Shadow(NamedTuple):
    """What shades the ground: a footprint's centre, half sizes and heading, and the height of what stands there."""

    x: float
    z: float
    half_width: float
    half_length: float
    heading: tuple[float, float]
    base: float
    height: float


@dataclasses.dataclass(frozen=True)
class Frame:
    """A place in the world: an origin and the directions of an object's right, up and forward."""

    origin: tuple[float, float, float]
    right: tuple[float, float, float] = (1.0, 0.0, 0.0)
    forward: tuple[float, float, float] = (0.0, 0.0, 1.0)

    def at(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        (ox, oy, oz), (rx, ry, rz), (fx, fy, fz) = self.origin, self.right, self.forward
        return ox + x * rx + z * fx, oy + x * ry + y + z * fy, oz + x * rz + z * fz

    def moved(self, x: float, y: float, z: float) -> "Frame":
        return Frame(self.at(x, y, z), self.right, self.forward)

    def turned(self, cosine: float, sine: float) -> "Frame":
        """The same place with the object turned to its right."""
        (rx, ry, rz), (fx, fy, fz) = self.right, self.forward
        right = cosine * rx - sine * fx, cosine * ry - sine * fy, cosine * rz - sine * fz
        forward = cosine * fx + sine * rx, cosine * fy + sine * ry, cosine * fz + sine * rz
        return Frame(self.origin, right, forward)


class Faces(NamedTuple):
    """All faces of a scene as arrays, the face first."""

    corners: np.ndarray  # (faces, 4, 3) world metres: bottom left, bottom right, top right, top left from outside
    labels: np.ndarray  # uint8
    materials: np.ndarray  # uint8
    shapes: np.ndarray  # uint8
    colours: np.ndarray  # (3, faces) float32, display values from 0 to 1
    accents: np.ndarray  # (3, faces) float32
    parameters: np.ndarray  # (PARAMETERS, faces) float32
    bulges: np.ndarray  # (2, faces) float32
    two_sided: np.ndarray  # bool


class Mesh:
    """Collects faces and shadows; `eye` is the camera's position, which limbs and balls turn towards."""

    def __init__(self, eye: np.ndarray):
        self.eye = tuple(float(coordinate) for coordinate in eye)
        self.shadows: list[Shadow] = []
        self._corners: list = []
        self._looks: list[Look] = []

    def quad(self, bottom_left, bottom_right, top_right, top_left, look: Look) -> None:
        self._corners.append((bottom_left, bottom_right, top_right, top_left))
        self._looks.append(look)

    def panel(self, frame: Frame, x0: float, x1: float, y0: float, y1: float, z: float, look: Look) -> None:
        """An upright rectangle that faces backwards in its frame."""
        self.quad(frame.at(x0, y0, z), frame.at(x1, y0, z), frame.at(x1, y1, z), frame.at(x0, y1, z), look)

    def block(
        self, frame: Frame, low: tuple, high: tuple, y: tuple[float, float], looks: Mapping[str, Look | None]
    ) -> None:
        """A block whose bottom and top are rectangles (x0, x1, z0, z1); `looks` names faces, "all" the others.

        A face whose name is given as None is left out.
        """
        (a0, a1, b0, b1), (c0, c1, d0, d1), (y0, y1), at = low, high, y, frame.at
        bottom = at(a0, y0, b0), at(a1, y0, b0), at(a1, y0, b1), at(a0, y0, b1)
        top = at(c0, y1, d0), at(c1, y1, d0), at(c1, y1, d1), at(c0, y1, d1)
        for name, first, second in (("back", 0, 1), ("right", 1, 2), ("front", 2, 3), ("left", 3, 0)):
            look = looks.get(name, looks.get("all"))
            if look is not None:
                self.quad(bottom[first], bottom[second], top[second], top[first], look)
        look = looks.get("top", looks.get("all"))
        if look is not None:
            self.quad(top[0], top[1], top[2], top[3], look)

    def limb(self, start, end, start_width: float, end_width: float, look: Look) -> None:
        """A strip from `start` to `end` that turns its broad side to the camera."""
        along = [b - a for a, b in zip(start, end, strict=True)]
        view = [(a + b) / 2 - e for a, b, e in zip(start, end, self.eye, strict=True)]
        side = _cross(along, view)
        length = math.sqrt(side[0] * side[0] + side[1] * side[1] + side[2] * side[2])
        if length < 1e-6:
            return
        near, far = start_width / (2 * length), end_width / (2 * length)
        self.quad(
            tuple(p - s * near for p, s in zip(start, side, strict=True)),
            tuple(p + s * near for p, s in zip(start, side, strict=True)),
            tuple(p + s * far for p, s in zip(end, side, strict=True)),
            tuple(p - s * far for p, s in zip(end, side, strict=True)),
            look._replace(two_sided=True),
        )

    def ball(self, centre, half_width: float, half_height: float, look: Look) -> None:
        """An upright ellipse that turns to the camera."""
        shape = Shape.DISC if look.shape == Shape.POLYGON else look.shape
        foot = (centre[0], centre[1] - half_height, centre[2])
        head = (centre[0], centre[1] + half_height, centre[2])
        self.limb(foot, head, 2 * half_width, 2 * half_width, look._replace(shape=shape))

    def shade(self, frame: Frame, half_width: float, half_length: float, height: float) -> None:
        """Notes the shadow of something that stands at the frame's origin."""
        (x, y, z), (fx, _, fz) = frame.origin, frame.forward
        length = math.sqrt(fx * fx + fz * fz)
        self.shadows.append(Shadow(x, z, half_width, half_length, (fx / length, fz / length), y, height))

    def faces(self) -> Faces:
        looks = self._looks
        padding = (0.0,) * PARAMETERS
        return Faces(
            np.array(self._corners, np.float64).reshape(-1, 4, 3),
            np.array([look.label for look in looks], np.uint8),
            np.array([look.material for look in looks], np.uint8),
            np.array([look.shape for look in looks], np.uint8),
            np.array([look.colour for look in looks], np.float32).T.copy(),
            np.array([look.accent for look in looks], np.float32).T.copy(),
            np.array([(look.parameters + padding)[:PARAMETERS] for look in looks], np.float32).T.copy(),
            np.array([look.bulge for look in looks], np.float32).T.copy(),
            np.array([look.two_sided for look in looks], bool),
        )


def _cross(a, b) -> tuple[float, float, float]:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
