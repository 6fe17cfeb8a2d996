"""Street furniture: lamps, poles, traffic lights, signs, bollards and unlabelled clutter."""

from mtl_keras.data.street_scenes.draws import Draw, anything, grey, hue_colour, scaled
from mtl_keras.data.street_scenes.mesh import (
    IGNORE,
    POLE,
    TRAFFIC_LIGHT,
    TRAFFIC_SIGN,
    Frame,
    Look,
    Material,
    Mesh,
    Shape,
)

ROUND = (0.85, 0.0)
RED, BLUE, YELLOW, WHITE = (0.78, 0.1, 0.12), (0.1, 0.28, 0.68), (0.96, 0.78, 0.12), (0.93, 0.93, 0.91)
GREEN, BLACK, ORANGE = (0.05, 0.42, 0.25), (0.06, 0.06, 0.06), (0.95, 0.5, 0.1)


def pole_look(draw: Draw) -> Look:
    return Look(POLE, grey(draw, 0.12, 0.75, 0.25), bulge=ROUND)


def lamp(mesh: Mesh, frame: Frame, draw: Draw, reach: float) -> None:
    """A street lamp whose arm reaches sideways; with no reach a lantern on a post."""
    look, height = pole_look(draw), draw.uniform(6.0, 9.0) if reach else draw.uniform(3.4, 4.6)
    mesh.limb(frame.at(0, 0, 0), frame.at(0, 1.0, 0), 0.26, 0.22, look)
    mesh.limb(frame.at(0, 1.0, 0), frame.at(0, height, 0), 0.2, 0.13, look)
    if reach:
        mesh.limb(frame.at(0, height - 0.05, 0), frame.at(reach, height + 0.35, 0), 0.12, 0.1, look)
        head = (reach - 0.35, reach + 0.35, -0.14, 0.14)
        mesh.block(frame, head, head, (height + 0.26, height + 0.44), {"all": look._replace(bulge=(0, 0))})
    else:
        mesh.ball(frame.at(0, height + 0.2, 0), 0.2, 0.26, look._replace(colour=(0.93, 0.92, 0.85)))
        mesh.ball(frame.at(0, height + 0.44, -0.02), 0.24, 0.08, look)
    mesh.shade(frame, 0.13, 0.13, height)


def bollard(mesh: Mesh, frame: Frame, draw: Draw) -> None:
    look = pole_look(draw)
    mesh.limb(frame.at(0, 0, 0), frame.at(0, 0.95, 0), 0.2, 0.2, look)
    mesh.ball(frame.at(0, 0.95, 0), 0.1, 0.08, look)
    mesh.shade(frame, 0.14, 0.14, 0.9)


def wire_pole(mesh: Mesh, frame: Frame, draw: Draw) -> None:
    """A tall pole with one or two cross arms."""
    look, height = pole_look(draw), draw.uniform(7.5, 10.0)
    mesh.limb(frame.at(0, 0, 0), frame.at(0, height, 0), 0.3, 0.2, look)
    for level in range(draw.integer(1, 2)):
        y = height - 0.4 - 0.8 * level
        mesh.limb(frame.at(-1.1, y, 0), frame.at(1.1, y, 0), 0.13, 0.13, look)
    mesh.shade(frame, 0.18, 0.18, height)


def _signal_head(mesh: Mesh, frame: Frame, draw: Draw, y: float, size: float, lit: float) -> None:
    """A box of three lamps that faces the camera's street, with a backing board on some."""
    box = draw.pick(((0.08, 0.08, 0.09), (0.12, 0.16, 0.13), (0.75, 0.6, 0.12), (0.3, 0.3, 0.3)), (0.6, 0.2, 0.1, 0.1))
    body = Look(TRAFFIC_LIGHT, box)
    face = Look(TRAFFIC_LIGHT, scaled(box, 0.8), Material.SIGNAL, parameters=(lit,))
    half, tall = 0.21 * size, 1.2 * size
    edge = (-half, half, -0.16, 0.16)
    mesh.block(frame, edge, edge, (y, y + tall), {"all": body, "back": face})
    if draw.chance(0.4):
        rim = Look(TRAFFIC_LIGHT, box, two_sided=True)
        mesh.panel(frame, -half * 1.7, half * 1.7, y - 0.14, y + tall + 0.14, -0.1, rim)


def traffic_light(mesh: Mesh, frame: Frame, draw: Draw, reach: float, lit: float) -> None:
    """Lights on a post, and above the road where the arm reaches sideways."""
    look, size = pole_look(draw), draw.uniform(0.95, 1.35)
    height = draw.uniform(5.2, 6.0) if reach else draw.uniform(3.3, 3.8)
    mesh.limb(frame.at(0, 0, 0), frame.at(0, height, 0), 0.2, 0.16, look)
    low = draw.uniform(2.2, 2.5)
    _signal_head(mesh, frame.moved(0, 0, -0.3), draw, low, size, lit)
    if reach:
        mesh.limb(frame.at(0, height - 0.1, 0), frame.at(reach, height + 0.15, 0), 0.16, 0.1, look)
        _signal_head(mesh, frame.moved(reach * 0.96, 0, -0.3), draw, height - 1.1 * size, size * 1.1, lit)
    if draw.chance(0.3):
        sign_plate(mesh, frame.moved(0, 0, -0.12), draw, low - 0.75, 0.6)
    mesh.shade(frame, 0.14, 0.14, height)


def sign_plate(mesh: Mesh, frame: Frame, draw: Draw, y: float, size: float) -> None:
    """One plate of a random kind whose lower edge is at `y`; faces the frame's back."""
    kind = draw.pick(("limit", "order", "warning", "yield", "priority", "stop", "info"),
                     (0.24, 0.16, 0.2, 0.1, 0.1, 0.1, 0.1))  # fmt: skip
    half, mark = size / 2, float(draw.integer(1, 4))
    left, right, middle = frame.at(-half, y, 0), frame.at(half, y, 0), frame.at(0, y + size * 0.9, 0)
    paint = Material.SIGN
    if kind == "limit":
        look = Look(TRAFFIC_SIGN, WHITE, paint, RED, (0.0, 0.24, 4.0), Shape.DISC)
        mesh.panel(frame, -half, half, y, y + size, 0, look)
    elif kind == "order":
        look = Look(TRAFFIC_SIGN, draw.pick((BLUE, RED)), paint, WHITE, (0.0, 0.08, mark), Shape.DISC)
        mesh.panel(frame, -half, half, y, y + size, 0, look)
    elif kind == "warning":
        look = Look(TRAFFIC_SIGN, draw.pick((WHITE, YELLOW)), paint, RED, (2.0, 0.3, 4.0))
        mesh.quad(left, right, middle, middle, look)
    elif kind == "yield":
        # The triangle stands on its tip: its first edge runs along the top.
        top = y + size * 0.9
        look = Look(TRAFFIC_SIGN, WHITE, paint, RED, (2.0, 0.3, 0.0), two_sided=True)
        mesh.quad(frame.at(half, top, 0), frame.at(-half, top, 0), frame.at(0, y, 0), frame.at(0, y, 0), look)
    elif kind == "priority":
        look = Look(TRAFFIC_SIGN, YELLOW, paint, WHITE, (1.0, 0.22, 0.0))
        mesh.quad(frame.at(0, y - 0.1 * size, 0), frame.at(half * 1.1, y + half, 0), frame.at(0, y + size * 1.1, 0),
                  frame.at(-half * 1.1, y + half, 0), look)  # fmt: skip
    elif kind == "stop":
        look = Look(TRAFFIC_SIGN, RED, paint, WHITE, (1.0, 0.1, 1.0), Shape.OCTAGON)
        mesh.panel(frame, -half, half, y, y + size, 0, look)
    else:
        look = Look(TRAFFIC_SIGN, draw.pick((BLUE, GREEN, WHITE)), paint, WHITE, (1.0, 0.08, mark))
        mesh.panel(frame, -half * 0.9, half * 0.9, y, y + size, 0, look)


def traffic_sign(mesh: Mesh, frame: Frame, draw: Draw) -> None:
    """One or two plates on a post."""
    look, size, y = pole_look(draw), draw.uniform(0.65, 0.95), draw.uniform(2.0, 2.5)
    plates = draw.pick((1, 2), (0.65, 0.35))
    for number in range(plates):
        sign_plate(mesh, frame.moved(0, 0, -0.08), draw, y + number * (size + 0.1), size)
    if draw.chance(0.3):
        extra = Look(TRAFFIC_SIGN, WHITE, Material.SIGN, BLACK, (3.0, 0.06, 4.0, draw.uniform(0, 99)))
        mesh.panel(frame, -0.3, 0.3, y - 0.4, y - 0.06, -0.08, extra)
    mesh.limb(frame.at(0, 0, 0), frame.at(0, y + plates * (size + 0.1) - 0.1, 0), 0.09, 0.09, look)
    mesh.shade(frame, 0.12, 0.12, 2.6)


def direction_board(mesh: Mesh, frame: Frame, draw: Draw, width: float, reach: float) -> None:
    """A large board with lines of text, on two posts or hung over the road by an arm."""
    paint = draw.pick((BLUE, GREEN, WHITE, YELLOW, hue_colour(draw.uniform(), 0.5, 0.5)))
    mark = 4.0 if sum(paint) > 1.9 else 0.0
    board = Look(TRAFFIC_SIGN, paint, Material.SIGN, BLACK if mark else WHITE, (3.0, 0.05, mark, draw.uniform(0, 99)))
    look, height = pole_look(draw), width * draw.uniform(0.45, 0.7)
    y = 5.0 if reach else draw.uniform(1.7, 2.4)
    centre = reach
    mesh.panel(frame, centre - width / 2, centre + width / 2, y, y + height, -0.12, board)
    posts = (0.0,) if reach else (centre - width * 0.35, centre + width * 0.35)
    for x in posts:
        mesh.limb(frame.at(x, 0, 0), frame.at(x, y + height * 0.9, 0), 0.2, 0.16, look)
        mesh.shade(frame.moved(x, 0, 0), 0.14, 0.14, y)
    if reach:
        mesh.limb(frame.at(0, y + height * 0.7, 0), frame.at(reach, y + height * 0.7, 0), 0.18, 0.14, look)


def clutter(mesh: Mesh, frame: Frame, draw: Draw) -> None:
    """A bin, a switch box, a bench or a stack of crates: things without a class."""
    kind, colour = draw.pick(("bin", "box", "bench", "crates")), anything(draw)
    look = Look(IGNORE, colour)
    if kind == "bin":
        edge = (-0.3, 0.3, -0.3, 0.3)
        mesh.block(frame, edge, (-0.36, 0.36, -0.36, 0.36), (0.05, 1.05), {"all": look})
    elif kind == "box":
        edge = (-0.5, 0.5, -0.25, 0.25)
        mesh.block(frame, edge, edge, (0, draw.uniform(1.0, 1.7)), {"all": look._replace(material=Material.PLANKS,
                   parameters=(0, 0, 0, 0.5, 0))})  # fmt: skip
    elif kind == "bench":
        seat, back = (-0.85, 0.85, -0.25, 0.2), (-0.85, 0.85, 0.2, 0.28)
        mesh.block(frame, seat, seat, (0.38, 0.46), {"all": look})
        mesh.block(frame, back, back, (0.5, 0.95), {"all": look})
        for x in (-0.7, 0.7):
            mesh.limb(frame.at(x, 0, 0), frame.at(x, 0.4, 0), 0.08, 0.08, Look(IGNORE, BLACK))
    else:
        for level in range(draw.integer(1, 3)):
            x, z = draw.uniform(-0.08, 0.08), draw.uniform(-0.08, 0.08)
            edge = (x - 0.5, x + 0.5, z - 0.4, z + 0.4)
            crate = Look(IGNORE, anything(draw), Material.PLANKS, parameters=(0, 0, 0, 0.15, 1.0))
            mesh.block(frame, edge, edge, (level * 0.5, level * 0.5 + 0.48), {"all": crate})
    mesh.shade(frame, 0.5, 0.4, 1.0)
