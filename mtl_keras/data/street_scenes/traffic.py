"""Puts vehicles, riders and people on the road and the sidewalks, without letting them run into each other."""

import functools
from collections.abc import Callable

from mtl_keras.data.street_scenes import people, vehicles
from mtl_keras.data.street_scenes.draws import Draw, cosine_sine
from mtl_keras.data.street_scenes.mesh import Frame, Mesh
from mtl_keras.data.street_scenes.street import KERB, Side, Street

# Half a length along the road, in metres, that each kind keeps free.
_HALF_LENGTH = {"car": 2.8, "truck": 5.6, "bus": 6.4, "tram": 15.0, "motorcycle": 1.3, "cyclist": 1.1}


_MAKERS: dict[str, Callable[[Mesh, Frame, Draw], None]] = {
    "car": vehicles.car,
    "truck": vehicles.truck,
    "bus": vehicles.bus,
    "tram": vehicles.tram,
    "motorcycle": functools.partial(people.motorcycle, ridden=True),
    "cyclist": people.cyclist,
}


def populate_road(mesh: Mesh, street: Street, draw: Draw) -> None:
    """Fills lanes, crossing street and kerbs; kinds that are rare on roads are put near, to be seen at all."""
    wanted = [kind for kind, share in (("bus", 0.25), ("truck", 0.28), ("motorcycle", 0.42), ("cyclist", 0.42))
              if draw.chance(share)]  # fmt: skip
    if street.rails is not None and draw.chance(0.92):
        wanted.append("tram")
    taken: list[list[tuple[float, float]]] = [[] for _ in street.lanes]
    for kind in wanted:
        _put_near(mesh, street, draw, kind, taken)
    density = draw.uniform(0.15, 1.0)
    for number, (sideways, way) in enumerate(street.lanes):
        z = draw.uniform(9.0, 30.0) if number == street.own_lane else draw.uniform(5.0, 22.0)
        while z < 130.0:
            kind = draw.pick(("car", "truck", "bus", "motorcycle", "cyclist"), (0.84, 0.06, 0.04, 0.03, 0.03))
            if draw.chance(density) and not (street.at_junction(z, 3.0) or _blocked(taken[number], z, kind)):
                frame = street.place(sideways + draw.uniform(-0.35, 0.35), z, 0.0, way)
                _MAKERS[kind](mesh, frame, draw)
                taken[number].append((z, _HALF_LENGTH[kind]))
            z += draw.uniform(6.5, 22.0)
    _cross(mesh, street, draw)
    for side in (street.left, street.right):
        _park(mesh, street, side, draw)


def _blocked(taken: list[tuple[float, float]], z: float, kind: str) -> bool:
    return any(abs(z - place) < half + _HALF_LENGTH[kind] + 1.0 for place, half in taken)


def _put_near(mesh: Mesh, street: Street, draw: Draw, kind: str, taken: list) -> None:
    """One vehicle of a rare kind on the nearest stretch that is free."""
    for _ in range(8):
        number = draw.integer(0, len(street.lanes) - 1)
        if kind == "tram":
            number = [place == street.rails for place, _ in street.lanes].index(True)
        sideways, way = street.lanes[number]
        half = _HALF_LENGTH[kind]
        small = kind in ("motorcycle", "cyclist")
        least = (5.5 if small else 7.0) + half * (number == street.own_lane or kind == "tram")
        z = draw.uniform(least, least + (9.0 if small else 22.0))
        if street.at_junction(z, half) and number == street.own_lane:
            continue
        if _blocked(taken[number], z, kind):
            continue
        offset = draw.uniform(0.2, 1.2) * (1 if way > 0 else -1) if small else draw.uniform(-0.2, 0.2)
        _MAKERS[kind](mesh, street.place(sideways + offset, z, 0.0, way), draw)
        taken[number].append((z, half))
        return


def _cross(mesh: Mesh, street: Street, draw: Draw) -> None:
    """Traffic on the crossing street, seen from its side."""
    if street.junction is None:
        return
    near, far = street.junction
    for way, place in ((1.0, near * 0.72 + far * 0.28), (-1.0, near * 0.28 + far * 0.72)):
        x = draw.uniform(-22.0, -4.0)
        while x < 24.0:
            kind = draw.pick(("car", "truck", "bus", "motorcycle", "cyclist", "nothing"),
                             (0.31, 0.06, 0.05, 0.09, 0.11, 0.38))  # fmt: skip
            if kind != "nothing":
                _MAKERS[kind](mesh, street.place(x, place).turned(0.0, way), draw)
                x += _HALF_LENGTH[kind] * 2
            x += draw.uniform(4.0, 14.0)


def _park(mesh: Mesh, street: Street, side: Side, draw: Draw) -> None:
    """Parked cars along the kerb where the road has room for them."""
    outer = street.lanes[0] if side.sign < 0 else street.lanes[-1]
    room = abs(side.edge - outer[0])
    if room < 3.2 or draw.chance(0.15):
        return
    z, density = draw.uniform(4.0, 9.0), draw.uniform(0.4, 0.95)
    while z < 90.0:
        if draw.chance(density) and not street.at_junction(z, 7.0):
            kind = draw.pick(("car", "motorcycle", "truck"), (0.9, 0.07, 0.03))
            way = 1.0 if side.sign > 0 else -1.0
            frame = street.place(side.at(-1.15), z, 0.0, way)
            if kind == "motorcycle":
                people.motorcycle(mesh, frame, draw, ridden=False)
            else:
                _MAKERS[kind](mesh, frame, draw)
            z += 6.0 if kind == "truck" else 0.0
        z += draw.uniform(5.6, 7.0)


def populate_sidewalks(mesh: Mesh, street: Street, draw: Draw) -> None:
    """People walking, waiting and crossing; parked bicycles and motorcycles; some cyclists."""
    for side in (street.left, street.right):
        if not side.sidewalk:
            continue
        for _ in range(draw.pick((0, 2, 4, 7), (0.08, 0.3, 0.4, 0.22))):
            z = 5.5 + 34.0 * draw.uniform() * draw.uniform()
            if not street.at_junction(z):
                sideways = side.at(side.verge + draw.uniform(0.9, max(1.0, side.sidewalk - 0.3)))
                _walker(mesh, street, draw, sideways, z, KERB)
        if draw.chance(0.42):
            _parked_cycles(mesh, street, side, draw)
        if draw.chance(0.15):
            z = draw.uniform(6.0, 16.0)
            frame = street.place(side.at(side.verge + side.sidewalk * 0.6), z, KERB, draw.sign())
            people.cyclist(mesh, frame, draw)
    for start, end in street.markings.crossings:
        for _ in range(draw.pick((0, 1, 3, 5), (0.2, 0.3, 0.3, 0.2))):
            z = draw.uniform(start, end)
            sideways = draw.uniform(street.left.edge, street.right.edge)
            frame = street.place(sideways, z).turned(0.0, draw.sign())
            people.pedestrian(mesh, frame, draw)


def _walker(mesh: Mesh, street: Street, draw: Draw, sideways: float, z: float, height: float) -> None:
    cosine, sine = cosine_sine(draw.uniform(-0.5, 0.5) if draw.chance(0.75) else draw.uniform(-3.1, 3.1))
    people.pedestrian(mesh, street.place(sideways, z, height, draw.sign()).turned(cosine, sine), draw)
    if draw.chance(0.25):
        people.pedestrian(mesh, street.place(sideways + 0.62, z + 0.15, height).turned(cosine, sine), draw)


def _parked_cycles(mesh: Mesh, street: Street, side: Side, draw: Draw) -> None:
    """A rack of bicycles, or one motorcycle, near the kerb."""
    z, sideways = draw.uniform(5.5, 16.0), side.at(side.verge + 0.95)
    if street.at_junction(z, 3.0):
        return
    cosine, sine = cosine_sine(draw.sign() * draw.uniform(0.5, 1.5))
    if draw.chance(0.3):
        people.motorcycle(mesh, street.place(sideways, z, KERB).turned(cosine, sine), draw, ridden=False)
        return
    for number in range(draw.integer(1, 4)):
        people.bicycle(mesh, street.place(sideways, z + number * 0.75, KERB).turned(cosine, sine), draw)
