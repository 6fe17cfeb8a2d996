"""Decides what stands where in a scene."""

import dataclasses

import numpy as np

from mtl_keras.data.street_scenes import buildings, furniture, plants, traffic
from mtl_keras.data.street_scenes.camera import SAMPLES_PER_PIXEL, Camera, draw_camera
from mtl_keras.data.street_scenes.draws import Colour, Draw, paint, plaster
from mtl_keras.data.street_scenes.mesh import BUILDING, Frame, Look, Mesh
from mtl_keras.data.street_scenes.street import KERB, VERGE, Side, Street, build_ground, draw_street
from mtl_keras.data.street_scenes.weather import Weather, draw_weather


@dataclasses.dataclass(frozen=True)
class Bonnet:
    """The own car's bonnet: its colour, its height as a share of the picture's width and its middle's place."""

    colour: Colour
    rise: float
    middle: float


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that a scene's rendering needs."""

    camera: Camera
    weather: Weather
    street: Street
    mesh: Mesh
    skyline: tuple[np.ndarray, np.ndarray]
    cloud_offset: float
    bonnet: Bonnet | None

    def bonnet_pixels(self) -> np.ndarray:
        """The pixels (height, width) that show the own car."""
        return self._bonnet_depth(np.arange(self.camera.height) + 0.5, np.arange(self.camera.width) + 0.5) > 0

    def paint_bonnet(self, light: np.ndarray) -> None:
        """Covers linear light (3, rows, columns) with the own car's bonnet."""
        if self.bonnet is None:
            return
        rows, columns = (np.arange(size) / SAMPLES_PER_PIXEL for size in light.shape[1:])
        depth = self._bonnet_depth(rows, columns)
        shine = np.clip(1.0 - depth * 9, 0.25, 1.0) * (self.weather.skylight[1] + 0.4 * self.weather.sunlight[1])
        colour = np.square(np.array(self.bonnet.colour, np.float32) * np.float32(0.8) + np.float32(0.05))
        np.copyto(light, (colour[:, None, None] * shine).astype(np.float32), where=depth > 0)

    def _bonnet_depth(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """How far below the bonnet's outline points lie, as a share of the picture's width."""
        if self.bonnet is None:
            return np.full((rows.size, columns.size), -1.0)
        x = columns / self.camera.width - self.bonnet.middle
        outline = self.bonnet.rise * (1 - 1.6 * x * x - 10 * x * x * x * x)
        return (rows[:, None] - self.camera.height) / self.camera.width + outline[None, :]


def draw_plan(draw: Draw, height: int, width: int) -> Plan:
    """A scene for a picture of so many pixels."""
    street = draw_street(draw)
    camera = draw_camera(draw, height, width, street.lanes[street.own_lane][0] + draw.uniform(-0.4, 0.4))
    weather = draw_weather(draw)
    mesh = Mesh(camera.position)
    build_ground(mesh, street, draw)
    skyline = _line_side(mesh, street, street.left, draw), _line_side(mesh, street, street.right, draw)
    _close_vista(mesh, street, draw)
    traffic.populate_road(mesh, street, draw)
    for side in (street.left, street.right):
        _furnish(mesh, street, side, draw)
    _light_junction(mesh, street, draw)
    traffic.populate_sidewalks(mesh, street, draw)
    bonnet = Bonnet(paint(draw), draw.uniform(0.03, 0.085), 0.5 + draw.uniform(-0.06, 0.06))
    return Plan(camera, weather, street, mesh, skyline, draw.uniform(0, 255), bonnet if draw.chance(0.3) else None)


def _line_side(mesh: Mesh, street: Street, side: Side, draw: Draw) -> np.ndarray:
    """Fills one side with lots; returns the houses' heights along the street and the place of their front."""
    heights = np.zeros(322, np.float32)
    heights[-1] = side.front
    weights = {
        "city": (0.74, 0.07, 0.07, 0.12),
        "suburb": (0.42, 0.13, 0.23, 0.22),
        "country": (0.14, 0.14, 0.26, 0.46),
    }[street.kind]
    typical = draw.uniform(6.0, 18.0) if street.kind == "city" else draw.uniform(4.5, 9.0)
    z = draw.uniform(-14.0, -6.0)
    while z < 190.0:
        length = draw.uniform(8.0, 20.0)
        if street.junction and z < street.junction[1] + 1.0 and z + length > street.junction[0] - 1.0:
            if street.junction[0] - 1.0 - z < 5.0:
                z = street.junction[1] + 1.0
                continue
            length = street.junction[0] - 1.0 - z
        frame = street.place(side.front, z)
        lot = draw.pick(("house", "wall", "fence", "green"), weights)
        tall = max(3.6, typical * draw.uniform(0.7, 1.35))
        if lot == "house":
            setback = draw.uniform(0.0, 0.5) if street.kind == "city" else draw.uniform(0.0, 5.0)
            depth = draw.uniform(8.0, 14.0)
            buildings.house(mesh, frame.moved(side.sign * setback, 0, 0), draw, length - 0.1, depth, tall, side.sign)
            heights[int(z + 20) : int(z + length + 20)] = tall
            if setback > 2.5:
                _front_garden(mesh, frame, draw, length)
        elif lot == "wall":
            buildings.wall(mesh, frame, draw, length, draw.uniform(1.1, 3.2))
            _backdrop(mesh, frame, draw, length, side.sign)
        elif lot == "fence":
            buildings.fence(mesh, frame, draw, length, draw.uniform(0.9, 2.1))
            _backdrop(mesh, frame, draw, length, side.sign)
        else:
            _green(mesh, frame, draw, length, side.sign)
        z += length + (draw.uniform(1.0, 6.0) if draw.chance(0.25) else 0.0)
    return heights


def _front_garden(mesh: Mesh, frame: Frame, draw: Draw, length: float) -> None:
    kind = draw.pick(("fence", "wall", "hedge", "open"), (0.4, 0.25, 0.2, 0.15))
    if kind == "fence":
        buildings.fence(mesh, frame, draw, length, draw.uniform(0.8, 1.4))
    elif kind == "wall":
        buildings.wall(mesh, frame, draw, length, draw.uniform(0.7, 1.5))
    elif kind == "hedge":
        plants.hedge(mesh, frame, draw, length, draw.uniform(0.8, 1.6))


def _backdrop(mesh: Mesh, frame: Frame, draw: Draw, length: float, sign: float) -> None:
    """What shows above a wall or a fence."""
    behind = frame.moved(sign * draw.uniform(3.0, 9.0), 0, length * draw.uniform(0.2, 0.8))
    kind = draw.pick(("tree", "house", "bush", "nothing"), (0.4, 0.3, 0.15, 0.15))
    if kind == "tree":
        plants.tree(mesh, behind, draw, draw.uniform(5.0, 11.0), draw.integer(0, 2))
    elif kind == "bush":
        plants.bush(mesh, behind, draw, draw.uniform(1.5, 3.0))
    elif kind == "house":
        deep = frame.moved(sign * draw.uniform(8.0, 14.0), 0, 0)
        buildings.house(mesh, deep, draw, length, 8.0, draw.uniform(4.0, 9.0), sign)


def _green(mesh: Mesh, frame: Frame, draw: Draw, length: float, sign: float) -> None:
    """A plot of trees, bushes or a hedge."""
    if draw.chance(0.35):
        plants.hedge(mesh, frame, draw, length, draw.uniform(0.9, 2.4))
    for _ in range(draw.integer(1, 3)):
        spot = frame.moved(sign * draw.uniform(1.5, 10.0), 0, draw.uniform(0, length))
        if draw.chance(0.6):
            plants.tree(mesh, spot, draw, draw.uniform(4.0, 11.0), draw.integer(0, 2))
        else:
            plants.bush(mesh, spot, draw, draw.uniform(0.8, 2.2))


def _close_vista(mesh: Mesh, street: Street, draw: Draw) -> None:
    """Blocks and trees in the distance, beside and at the end of the street."""
    town = {"city": 0.75, "suburb": 0.4, "country": 0.12}[street.kind]
    for _ in range(draw.integer(4, 8)):
        z, sign = draw.uniform(35.0, 230.0), draw.sign()
        side = street.left if sign < 0 else street.right
        frame = street.place(side.front + sign * draw.uniform(18.0, 60.0), z)
        if draw.chance(town):
            height, width = draw.uniform(9.0, 32.0), draw.uniform(5.0, 10.0)
            look = buildings.facade_look(draw, plaster(draw))
            edge = (-width, width, 0.0, 14.0)
            mesh.block(frame, edge, edge, (-2.0, height), {"all": look, "top": Look(BUILDING, plaster(draw))})
        else:
            plants.thicket(mesh, frame, draw, draw.uniform(20.0, 50.0), draw.uniform(5.0, 12.0))
    if draw.chance(0.75):
        end = draw.uniform(200.0, 290.0)
        for _ in range(draw.integer(2, 5)):
            frame = street.place(draw.uniform(-60.0, 60.0), end + draw.uniform(-8.0, 8.0))
            if draw.chance(town):
                width = draw.uniform(8.0, 20.0)
                mesh.panel(frame, -width, width, -5.0, draw.uniform(8.0, 35.0), 0.0,
                           buildings.facade_look(draw, plaster(draw)))  # fmt: skip
            else:
                plants.thicket(mesh, frame, draw, draw.uniform(40.0, 90.0), draw.uniform(8.0, 18.0))


def _furnish(mesh: Mesh, street: Street, side: Side, draw: Draw) -> None:
    """Sets trees, lamps, signs and small things in a row beside the road."""
    row = side.at(max(0.55, side.verge * 0.5))
    height = VERGE if side.verge else KERB
    trees, species = draw.chance(0.5), draw.pick((0, 1, 2), (0.6, 0.3, 0.1))
    tall, spacing = draw.uniform(4.5, 9.5), draw.uniform(9.0, 16.0)
    lamps = draw.pick(("mast", "lantern", "wires", "nothing"), (0.4, 0.25, 0.15, 0.2))
    z, number = draw.uniform(5.0, 12.0), 0
    while z < 95.0:
        frame = street.place(row, z, height)
        things = (lamps, "sign", "bollards", "clutter", "bush", "nothing")
        thing = draw.pick(things, (0.3, 0.32, 0.1, 0.12, 0.06, 0.1))
        if not street.at_junction(z, 2.0):
            if trees and number % 2 == 0:
                plants.tree(mesh, frame, draw, tall * draw.uniform(0.85, 1.15), species)
            else:
                _set(mesh, frame, draw, thing, side.sign)
        z += spacing * draw.uniform(0.4, 0.75)
        number += 1
    _set_rail(mesh, street, side, draw)
    if draw.chance(0.3):
        z = draw.uniform(12.0, 35.0)
        reach = -side.sign * draw.uniform(2.0, 4.0) if draw.chance(0.5) else 0.0
        if not street.at_junction(z, 2.0):
            furniture.direction_board(mesh, street.place(row, z, height), draw, draw.uniform(1.6, 3.2), reach)


def _set(mesh: Mesh, frame: Frame, draw: Draw, thing: str, sign: float) -> None:
    """One thing beside the road, on the side of the sign."""
    if thing == "mast":
        furniture.lamp(mesh, frame, draw, -sign * draw.uniform(1.2, 2.4))
    elif thing == "lantern":
        furniture.lamp(mesh, frame, draw, 0.0)
    elif thing == "wires":
        furniture.wire_pole(mesh, frame, draw)
    elif thing == "sign":
        furniture.traffic_sign(mesh, frame, draw)
    elif thing == "bollards":
        for step in range(4):
            furniture.bollard(mesh, frame.moved(0, 0, step * 1.7), draw)
    elif thing == "clutter":
        furniture.clutter(mesh, frame.moved(sign * 0.4, 0, 0), draw)
    elif thing == "bush":
        plants.bush(mesh, frame, draw, draw.uniform(0.5, 0.9))


def _set_rail(mesh: Mesh, street: Street, side: Side, draw: Draw) -> None:
    """On some streets a fence that keeps people off the road."""
    start, length = draw.uniform(3.0, 14.0), draw.uniform(8.0, 20.0)
    clear = street.junction is None or start + length < street.junction[0] or start > street.junction[1]
    if draw.chance(0.16) and side.sidewalk and clear:
        rail = street.place(side.at(side.verge + 0.3), start, KERB)
        buildings.fence(mesh, rail, draw, length, draw.uniform(0.8, 1.1), open_only=True)


def _light_junction(mesh: Mesh, street: Street, draw: Draw) -> None:
    """Traffic lights before a junction or at a crossing for people."""
    crossings, lit = street.markings.crossings, float(draw.integer(0, 2))
    if street.junction and draw.chance(0.85):
        places = [street.junction[0] - 0.8, street.junction[1] + 0.8]
    elif crossings and draw.chance(0.7):
        places = [crossings[0][0] - 0.6]
    elif draw.chance(0.25):
        places = [draw.uniform(9.0, 26.0)]
    else:
        return
    for place in places:
        for side in (street.right, street.left):
            if draw.chance(0.8):
                reach = -side.sign * draw.uniform(2.2, 4.6) if draw.chance(0.45) else 0.0
                frame = street.place(side.at(0.6), place, KERB)
                furniture.traffic_light(mesh, frame, draw, reach, lit)
