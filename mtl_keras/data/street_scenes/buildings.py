"""What lines a street: houses, walls and fences, in frames whose forward runs along the street."""

from mtl_keras.data.street_scenes.draws import Colour, Draw, anything, blend, earth, grey, plaster, scaled
from mtl_keras.data.street_scenes.mesh import BUILDING, FENCE, WALL, Frame, Look, Material, Mesh, Shape


def facade_look(draw: Draw, colour: Colour) -> Look:
    kind = draw.pick((0.2, 0.8, 1.5, 2.5), (0.25, 0.34, 0.28, 0.13))
    share = (draw.uniform(0.75, 0.94), draw.uniform(0.7, 0.92)) if kind > 2 else (
        draw.uniform(0.32, 0.62), draw.uniform(0.42, 0.62))  # fmt: skip
    frame = draw.pick(((0.92, 0.92, 0.9), (0.15, 0.13, 0.12), scaled(colour, 0.6)))
    bay, storey = draw.uniform(1.7, 3.4), draw.uniform(2.8, 3.6)
    return Look(BUILDING, colour, Material.FACADE, frame, (bay, storey, *share, kind, float(draw.integer(0, 999))))


def house(mesh: Mesh, frame: Frame, draw: Draw, length: float, depth: float, height: float, side: float) -> None:
    """A house from the frame's origin along its forward; its front is at x = 0 and it reaches `depth` to `side`."""
    colour = plaster(draw)
    front = facade_look(draw, colour)
    gable = front
    if draw.chance(0.5):
        joints = (0.14, 0.36, 0.12, draw.uniform(0, 0.4), draw.uniform(0, 99))
        gable = Look(BUILDING, scaled(colour, 0.92), Material.MASONRY, grey(draw, 0.2, 0.9), joints)
    x0, x1 = sorted((0.0, side * depth))
    edge = (x0, x1, 0.0, length)
    roof = Look(BUILDING, earth(draw) if draw.chance(0.5) else grey(draw, 0.15, 0.5), Material.ROOF)
    facing = "right" if side < 0 else "left"
    looks = {facing: front, "back": gable, "front": gable}
    mesh.block(frame, edge, edge, (0.0, height), looks)
    if draw.chance(0.55):
        _pitched(mesh, frame, edge, height, draw.uniform(1.5, 3.5), roof, Look(BUILDING, scaled(colour, 0.95)))
    else:
        _parapet(mesh, frame, edge, height, draw, blend(colour, (0.85, 0.85, 0.82), draw.uniform(0.1, 0.7)), roof)
    if draw.chance(0.3):
        _balconies(mesh, frame, draw, length, height, side)
    if draw.chance(0.35):
        _awning(mesh, frame, draw, length, side)


def _pitched(mesh: Mesh, frame: Frame, edge: tuple, base: float, rise: float, roof: Look, gable: Look) -> None:
    """A ridge along the street."""
    x0, x1, z0, z1 = edge
    x0, x1, middle, top = x0 - 0.35, x1 + 0.35, (x0 + x1) / 2, base + rise
    at = frame.at
    ridge_near, ridge_far = at(middle, top, z0), at(middle, top, z1)
    mesh.quad(at(x0, base - 0.1, z1), at(x0, base - 0.1, z0), ridge_near, ridge_far, roof)
    mesh.quad(at(x1, base - 0.1, z0), at(x1, base - 0.1, z1), ridge_far, ridge_near, roof)
    mesh.quad(at(x0 + 0.35, base, z0), at(x1 - 0.35, base, z0), ridge_near, ridge_near, gable)
    chimney = (middle - 0.9, middle - 0.3, z0 + 1.0, z0 + 1.8)
    mesh.block(frame, chimney, chimney, (base, top + 0.7), {"all": gable, "top": None})


def _parapet(mesh: Mesh, frame: Frame, edge: tuple, base: float, draw: Draw, colour: Colour, roof: Look) -> None:
    x0, x1, z0, z1 = edge
    rim = (x0 - 0.3, x1 + 0.3, z0 - 0.05, z1 + 0.05)
    mesh.block(frame, rim, rim, (base - 0.3, base + draw.uniform(0.1, 0.6)), {"all": Look(BUILDING, colour)})
    if draw.chance(0.4):
        inner = (x0 + 1.5, x1 - 1.5, z0 + 1.0, max(z0 + 2.5, z1 - 2.0))
        mesh.block(frame, inner, inner, (base, base + draw.uniform(1.5, 3.0)), {"all": roof, "top": None})


def _balconies(mesh: Mesh, frame: Frame, draw: Draw, length: float, height: float, side: float) -> None:
    look, width = Look(BUILDING, anything(draw)), draw.uniform(1.8, 3.0)
    start = draw.uniform(0.5, max(0.6, length - width - 0.5))
    for storey in range(1, min(int(height / 3.1), 6)):
        x0, x1 = sorted((0.0, -side * 1.1))
        edge = (x0, x1, start, start + width)
        mesh.block(frame, edge, edge, (storey * 3.1, storey * 3.1 + 1.0), {"all": look})


def _awning(mesh: Mesh, frame: Frame, draw: Draw, length: float, side: float) -> None:
    """A slanted cloth over the ground floor."""
    look = Look(BUILDING, anything(draw), Material.PLANKS, parameters=(0, 0, 0, 0.5, 0, draw.uniform(0, 99)),
                two_sided=True)  # fmt: skip
    start, end = length * draw.uniform(0.05, 0.3), length * draw.uniform(0.5, 0.95)
    if side > 0:
        start, end = end, start
    out = -side * draw.uniform(0.9, 1.5)
    mesh.quad(frame.at(out, 2.5, start), frame.at(out, 2.5, end), frame.at(0, 3.1, end), frame.at(0, 3.1, start), look)


def wall(mesh: Mesh, frame: Frame, draw: Draw, length: float, height: float) -> None:
    """A free-standing wall of brick, stone, blocks or concrete along the frame's forward."""
    kind = draw.pick(("brick", "stone", "concrete"))
    course, stone, joint = {"brick": (0.12, 0.3, 0.3), "stone": (0.4, 0.8, 0.35), "concrete": (3.0, 3.2, 0.4)}[kind]
    colour = grey(draw, 0.3, 0.85) if kind == "concrete" else plaster(draw)
    graffiti = draw.uniform(0.2, 0.8) if draw.chance(0.3) else 0.0
    look = Look(WALL, colour, Material.MASONRY, anything(draw), (course, stone, joint, graffiti, draw.uniform(0, 99)))
    edge = (-0.16, 0.16, 0.0, length)
    mesh.block(frame, edge, edge, (-0.6, height), {"all": look, "top": Look(WALL, scaled(colour, 0.85))})
    cap = (-0.24, 0.24, -0.05, length + 0.05)
    mesh.block(frame, cap, cap, (height, height + 0.12), {"all": Look(WALL, scaled(colour, draw.uniform(0.6, 1.15)))})
    mesh.shade(frame.moved(0, 0, length / 2), 0.2, length / 2, height)


def fence(mesh: Mesh, frame: Frame, draw: Draw, length: float, height: float, open_only: bool = False) -> None:
    """Boards, pickets, bars or rails along the frame's forward."""
    kind = draw.pick(("pickets", "bars", "rails") if open_only else ("boards", "lying", "pickets", "bars", "rails"))
    colour = earth(draw) if draw.chance(0.5) else anything(draw)
    salt = draw.uniform(0, 99)
    upright, lying = (0.0, 0.0, 0.0, 0.16, 0.0, salt), (0.0, 0.0, 0.0, 0.2, 1.0, salt)
    look = Look(FENCE, colour, Material.PLANKS, two_sided=True)
    look = {
        "boards": look._replace(parameters=upright),
        "lying": look._replace(parameters=lying),
        "pickets": look._replace(shape=Shape.PICKETS, parameters=(0.2, 0.66, 0.12, 0.0, 0.0, salt)),
        "bars": look._replace(shape=Shape.PICKETS, parameters=(0.24, 0.42, 0.0, 0.0, 0.0, salt)),
        "rails": look._replace(shape=Shape.RAILS, parameters=(2.0, draw.pick((2.0, 3.0)), 0.6, 0.0, 0.0, salt)),
    }[kind]
    at = frame.at
    mesh.quad(at(0, 0, 0), at(0, 0, length), at(0, height, length), at(0, height, 0), look)
    post = Look(FENCE, scaled(colour, 0.8), bulge=(0.7, 0.0))
    count = min(max(2, int(length / 2.5) + 1), 8)
    for number in range(count):
        z = number * length / (count - 1)
        mesh.limb(at(0, 0, z), at(0, height * 1.06, z), 0.13, 0.13, post)
    mesh.shade(frame.moved(0, 0, length / 2), 0.1, length / 2, height)
