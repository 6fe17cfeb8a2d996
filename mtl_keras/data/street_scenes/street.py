"""The street itself: its cross-section, how it bends and climbs, and the strips of ground it is made of."""

import dataclasses
import math

import numpy as np

from mtl_keras.data.street_scenes.draws import Draw, blend, earth, grey, hue_colour
from mtl_keras.data.street_scenes.ground import Markings
from mtl_keras.data.street_scenes.mesh import ROAD, SIDEWALK, TERRAIN, Frame, Look, Material, Mesh

# Heights above the road in metres: sidewalks, verges and the land beyond.
KERB, VERGE, LAND = 0.13, 0.06, 0.08
FAR = 420.0


@dataclasses.dataclass(frozen=True)
class Side:
    """One side of the street, all in metres from the road's edge outwards.

    Args:
        edge: sideways place of the road's edge.
        sign: −1 for the left side, 1 for the right one.
        verge: width of a strip of terrain beside the road.
        sidewalk: width of the sidewalk after it.
        garden: width of a strip of terrain between the sidewalk and what lines the street.
    """

    edge: float
    sign: float
    verge: float
    sidewalk: float
    garden: float

    def at(self, distance: float) -> float:
        """Sideways place so many metres from the road's edge."""
        return self.edge + self.sign * distance

    @property
    def front(self) -> float:
        """Sideways place of what lines the street."""
        return self.at(self.verge + self.sidewalk + self.garden)


@dataclasses.dataclass(frozen=True)
class Street:
    """A street along z that may bend and climb.

    Args:
        kind: city, suburb or country.
        curve: metres to the right per square metre along the street.
        climb: metres upwards per square metre along the street.
        lanes: sideways centre of every lane and the way it is driven (1 away from the camera, −1 towards it).
        own_lane: number of the camera's lane.
        left: the left side.
        right: the right side.
        junction: start and end of a crossing street along z, or nothing.
        rails: sideways place of tram tracks, or nothing.
        markings: what is painted on the road.
    """

    kind: str
    curve: float
    climb: float
    lanes: tuple[tuple[float, float], ...]
    own_lane: int
    left: Side
    right: Side
    junction: tuple[float, float] | None
    rails: float | None
    markings: Markings

    def bend(self, z):
        """How far the street has moved to the right at `z`, a number or an array."""
        capped = np.minimum(z, z * 0 + FAR)
        return capped * capped * (np.float32(self.curve) if isinstance(z, np.ndarray) else self.curve)

    def rise(self, z: float) -> float:
        capped = min(z, FAR)
        return self.climb * capped * capped

    def place(self, sideways: float, z: float, height: float = 0.0, way: float = 1.0) -> Frame:
        """A frame on the street that looks along it, or back along it where `way` is −1."""
        lean, pitch = 2 * self.curve * z, 2 * self.climb * z
        length = math.sqrt(1 + lean * lean + pitch * pitch)
        flat = math.sqrt(1 + lean * lean)
        return Frame(
            (sideways + self.bend(z), self.rise(z) + height, z),
            (way / flat, 0.0, -way * lean / flat),
            (way * lean / length, way * pitch / length, way / length),
        )

    def at_junction(self, z: float, margin: float = 0.0) -> bool:
        return self.junction is not None and self.junction[0] - margin < z < self.junction[1] + margin


def draw_street(draw: Draw) -> Street:
    """A street of the city, a suburb or the country."""
    kind = draw.pick(("city", "suburb", "country"), (0.56, 0.29, 0.15))
    lane = draw.uniform(2.9, 3.6)
    each = draw.pick((1, 2), (0.7, 0.3)) if kind != "country" else 1
    oneway = kind == "city" and draw.chance(0.18)
    ways = (1.0,) * (each + 1) if oneway else (-1.0,) * each + (1.0,) * each
    start = -lane * len(ways) / 2
    lanes = tuple((start + lane * (number + 0.5), way) for number, way in enumerate(ways))
    own_lane = len(ways) - 1 - (draw.integer(0, each - 1) if each > 1 else 0)
    parking = (draw.uniform(2.0, 2.4) * draw.chance(0.62 if kind == "city" else 0.3) for _ in range(2))
    sides = [
        _draw_side(draw, kind, sign * (-start + margin + 0.3), sign)
        for sign, margin in zip((-1.0, 1.0), parking, strict=True)
    ]
    bent = draw.chance(0.5)
    junction = None
    if draw.chance({"city": 0.55, "suburb": 0.4, "country": 0.3}[kind]):
        near = draw.uniform(13.0, 34.0)
        junction = (near, near + draw.uniform(7.0, 12.0))
    rails = draw.pick(lanes[:own_lane] or lanes)[0] if draw.chance(0.42) else None
    return Street(
        kind=kind,
        curve=draw.uniform(-0.0022, 0.0022) if bent and junction is None else draw.uniform(-0.0003, 0.0003) * bent,
        climb=draw.uniform(-0.0003, 0.0004) if draw.chance(0.45) else 0.0,
        lanes=lanes,
        own_lane=own_lane,
        left=sides[0],
        right=sides[1],
        junction=junction,
        rails=rails,
        markings=_draw_markings(draw, lanes, lane, sides, junction, rails),
    )


def _draw_side(draw: Draw, kind: str, edge: float, sign: float) -> Side:
    verge = draw.uniform(1.2, 3.0) if draw.chance({"city": 0.2, "suburb": 0.45, "country": 0.8}[kind]) else 0.0
    sidewalk = draw.uniform(1.8, 4.5) if kind != "country" or draw.chance(0.35) else 0.0
    garden = draw.uniform(1.5, 6.0) if draw.chance({"city": 0.15, "suburb": 0.75, "country": 0.9}[kind]) else 0.0
    return Side(edge, sign, verge, sidewalk, garden)


def _draw_markings(draw: Draw, lanes, lane: float, sides: list[Side], junction, rails) -> Markings:
    solid: list[float] = []
    dashed: list[float] = []
    if draw.chance(0.88):
        for (first, way), (_, other) in zip(lanes, lanes[1:], strict=False):
            (solid if way != other and draw.chance(0.55) else dashed).append(first + lane / 2)
    if draw.chance(0.6):
        solid += [lanes[0][0] - lane / 2, lanes[-1][0] + lane / 2]
    crossings, stops = [], []
    if junction and draw.chance(0.75):
        crossings = [(junction[0] - 4.2, junction[0] - 1.2), (junction[1] + 1.2, junction[1] + 4.2)]
    elif not junction and draw.chance(0.35):
        near = draw.uniform(8.0, 30.0)
        crossings = [(near, near + 3.2)]
    if crossings and draw.chance(0.7):
        own = [place for place, way in lanes if way > 0]
        stops = [(crossings[0][0] - 1.0, min(own) - lane / 2, max(own) + lane / 2)]
    return Markings(
        solid=tuple(solid),
        dashed=tuple(dashed),
        edges=(sides[0].edge, sides[1].edge),
        crossings=tuple(crossings),
        stops=tuple(stops),
        junctions=((junction[0] - 1.2, junction[1] + 1.2),) if junction else (),
        rails=(rails,) if rails is not None else (),
        colour=draw.pick(((0.93, 0.93, 0.9), (0.85, 0.85, 0.84), (0.93, 0.76, 0.22)), (0.6, 0.25, 0.15)),
        wear=draw.uniform(0.0, 0.75),
        patches=draw.uniform(0.1, 1.0),
        dash=draw.uniform(5.0, 9.0),
    )


def build_ground(mesh: Mesh, street: Street, draw: Draw) -> None:
    """Lays road, verges, sidewalks with kerbs, gardens and the land beyond."""
    asphalt = Look(ROAD, blend(grey(draw, 0.2, 0.62, 0.15), earth(draw), draw.uniform(0, 0.3)), Material.ASPHALT)
    slabs = grey(draw, 0.28, 0.8, 0.2) if draw.chance(0.65) else earth(draw)
    slab = (draw.uniform(0.3, 1.2), draw.uniform(0.3, 1.2), draw.uniform(0.1, 0.4))
    paving = Look(SIDEWALK, slabs, Material.PAVING, parameters=(0.0, *slab))
    kerb = Look(SIDEWALK, grey(draw, 0.35, 0.85))
    blades = hue_colour(draw.uniform(0.09, 0.36), draw.uniform(0.2, 0.7), draw.uniform(0.25, 0.65))
    grass = Look(TERRAIN, blades, Material.GRASS, earth(draw), (0.0, draw.uniform(-0.2, 0.9)))
    cuts = {-8.0, 900.0}
    if street.curve or street.climb:
        cuts |= {0.0, 6.0, 12.0, 19.0, 27.0, 37.0, 49.0, 64.0, 82.0, 104.0, 132.0, 168.0, 216.0, 280.0, 350.0, FAR}
    if street.junction:
        cuts = {cut for cut in cuts if not street.at_junction(cut)} | set(street.junction)
    places = sorted(cuts)
    for start, end in zip(places, places[1:], strict=False):
        strip = _Strip(mesh, street, start, end)
        if street.at_junction((start + end) / 2):
            strip.lay(-250.0, 250.0, 0.0, asphalt)
            continue
        strip.lay(street.left.edge, street.right.edge, 0.0, asphalt)
        for side in (street.left, street.right):
            _lay_side(strip, side, paving, kerb, grass, after_junction=start in (street.junction or ()))


def _lay_side(strip: "_Strip", side: Side, paving: Look, kerb: Look, grass: Look, after_junction: bool) -> None:
    place, height = 0.0, 0.0
    if side.verge:
        strip.rise(side.edge, 0.0, VERGE, grass, side.sign)
        strip.lay(side.at(0), side.at(side.verge), VERGE, grass)
        place, height = side.verge, VERGE
    if side.sidewalk:
        # The kerb is a rim of its own colour as wide as a hand, and the step up to it.
        inner, rim, outer = side.at(place), side.at(place + 0.16), side.at(place + side.sidewalk)
        strip.rise(inner, height, KERB, kerb, side.sign)
        strip.lay(inner, rim, KERB, kerb)
        strip.lay(rim, outer, KERB, paving)
        strip.rise(outer, 0.0, KERB, kerb, -side.sign)
    else:
        strip.rise(side.at(place), height, LAND, grass, side.sign)
    strip.lay(side.at(place + side.sidewalk), side.at(250.0), LAND, grass)
    if after_junction:
        strip.close(side.edge, side.at(place), height, grass)
        strip.close(side.at(place), side.at(place + side.sidewalk), KERB, kerb)
        strip.close(side.at(place + side.sidewalk), side.at(250.0), LAND, grass)


class _Strip:
    """Lays flat pieces between two places along the street."""

    def __init__(self, mesh: Mesh, street: Street, start: float, end: float):
        self._mesh = mesh
        self._start, self._end = start, end
        self._near = street.bend(start), street.rise(start)
        self._far = street.bend(end), street.rise(end)

    def _point(self, sideways: float, height: float, far: bool):
        bend, rise = self._far if far else self._near
        return sideways + bend, height + rise, self._end if far else self._start

    def lay(self, first: float, second: float, height: float, look: Look) -> None:
        left, right = sorted((first, second))
        look = look._replace(parameters=(left, *look.parameters[1:]))
        near = self._point(left, height, False), self._point(right, height, False)
        self._mesh.quad(*near, self._point(right, height, True), self._point(left, height, True), look)

    def rise(self, sideways: float, low: float, high: float, look: Look, facing: float) -> None:
        """A step along the street that faces the road (`facing` 1 on the right side of it)."""
        first, second = (False, True) if facing < 0 else (True, False)
        foot = self._point(sideways, low, first), self._point(sideways, low, second)
        self._mesh.quad(*foot, self._point(sideways, high, second), self._point(sideways, high, first), look)

    def close(self, first: float, second: float, high: float, look: Look) -> None:
        """The step at the strip's near end."""
        left, right = sorted((first, second))
        foot = self._point(left, 0.0, False), self._point(right, 0.0, False)
        self._mesh.quad(*foot, self._point(right, high, False), self._point(left, high, False), look)
