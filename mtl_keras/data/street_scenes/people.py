"""People on foot and on two wheels: skeletons of limbs that turn their broad side to the camera."""

import dataclasses

from mtl_keras.data.street_scenes.draws import Colour, Draw, anything, grey, hue_colour, scaled
from mtl_keras.data.street_scenes.mesh import BICYCLE, MOTORCYCLE, PERSON, RIDER, Frame, Look, Material, Mesh, Shape

ROUND = (0.75, 0.2)


@dataclasses.dataclass(frozen=True)
class _Clothes:
    """The looks of a body's parts."""

    top: Look
    sleeves: Look
    trousers: Look
    skin: Look
    hair: Look
    shoes: Look


def _dress(draw: Draw, label: int) -> _Clothes:
    top, bottom = anything(draw), grey(draw, 0.08, 0.6, 0.5) if draw.chance(0.6) else anything(draw)
    skin = hue_colour(draw.uniform(0.04, 0.09), draw.uniform(0.25, 0.6), draw.uniform(0.3, 0.95))
    hair = hue_colour(draw.uniform(0.03, 0.12), draw.uniform(0.05, 0.6), draw.uniform(0.08, 0.6))
    style = float(draw.pick((0, 1, 2), (0.6, 0.2, 0.2)))
    pattern = (style, draw.uniform(0.2, 0.6))
    body = Look(label, top, Material.CLOTH, anything(draw), pattern, bulge=(0.6, 0.0))
    return _Clothes(
        top=body,
        sleeves=Look(label, skin if draw.chance(0.25) else scaled(top, 0.92), Material.CLOTH, bulge=(0.75, 0.0)),
        trousers=Look(label, bottom, Material.CLOTH, bulge=(0.75, 0.0)),
        skin=Look(label, skin, bulge=ROUND),
        hair=Look(label, hair if draw.chance(0.8) else anything(draw), bulge=ROUND),
        shoes=Look(label, grey(draw, 0.06, 0.9), bulge=(0.4, 0.4)),
    )


def _head(mesh: Mesh, frame: Frame, centre: tuple, size: float, clothes: _Clothes, helmet: Look | None) -> None:
    x, y, z = centre
    mesh.limb(frame.at(x, y - 0.2 * size / 0.115, z), frame.at(x, y, z), 0.11, 0.11, clothes.skin)
    mesh.ball(frame.at(x, y, z), size * 0.8, size, clothes.skin)
    # Hair lies behind the face, so it covers the head of who walks away and frames that of who comes.
    cover = helmet or clothes.hair
    mesh.ball(frame.at(x, y + size * 0.28, z - 0.05), size * 0.93, size * 0.86, cover)
    mesh.ball(frame.at(x, y + size * 0.62, z + 0.01), size * 0.8, size * 0.5, cover)


def pedestrian(mesh: Mesh, frame: Frame, draw: Draw) -> None:
    """Somebody who stands or walks, perhaps in a coat or a skirt, with a bag or an umbrella."""
    clothes, height = _dress(draw, PERSON), draw.uniform(1.52, 1.92)
    if draw.chance(0.14):
        height = draw.uniform(1.0, 1.4)
    stride = draw.uniform(-1.0, 1.0) if draw.chance(0.75) else 0.1
    build, h = draw.uniform(0.88, 1.2) * (0.75 + 0.25 * height / 1.75), height

    def at(x: float, y: float, z: float):
        return frame.at(x * build, y * h, z * h)

    for side, swing in ((-1, stride), (1, -stride)):
        hip, knee = at(side * 0.09, 0.5, 0.0), at(side * 0.1, 0.28, 0.09 * swing + 0.02)
        ankle = at(side * 0.1, 0.035, 0.15 * swing - 0.03)
        mesh.limb(hip, knee, 0.19 * build, 0.15 * build, clothes.trousers)
        mesh.limb(knee, ankle, 0.15 * build, 0.11 * build, clothes.trousers)
        mesh.ball(at(side * 0.11, 0.025, 0.15 * swing), 0.075, 0.05, clothes.shoes)
        shoulder, elbow = at(side * 0.2, 0.81, 0.0), at(side * 0.25, 0.64, -0.06 * swing)
        hand = at(side * 0.24, 0.49, -0.13 * swing + 0.04)
        mesh.limb(elbow, shoulder, 0.1, 0.13 * build, clothes.sleeves)
        mesh.limb(hand, elbow, 0.08, 0.1, clothes.sleeves)
        mesh.ball(hand, 0.05, 0.06, clothes.skin)
    # Seen from the side a chest is narrower.
    frontal = abs(frame.forward[2]) * 0.3 + 0.7
    hem = draw.pick((0.46, 0.34, 0.28), (0.62, 0.23, 0.15))
    spread = 0.36 if hem > 0.4 else 0.46
    mesh.limb(at(0, hem, 0.0), at(0, 0.7, 0), spread * build * frontal, 0.38 * build * frontal, clothes.top)
    mesh.limb(at(0, 0.7, 0.0), at(0, 0.845, 0), 0.38 * build * frontal, 0.34 * build * frontal, clothes.top)
    _head(mesh, frame, (0, 0.925 * h, 0.01), 0.118 * (0.7 + 0.3 * h / 1.75), clothes, None)
    _carry(mesh, at, draw, build)
    mesh.shade(frame, 0.24, 0.24, height)


def _carry(mesh: Mesh, at, draw: Draw, build: float) -> None:
    thing = draw.pick(("nothing", "backpack", "bag", "umbrella"), (0.55, 0.2, 0.17, 0.08))
    look = Look(PERSON, anything(draw), bulge=(0.5, 0.3))
    if thing == "backpack":
        mesh.limb(at(0, 0.55, -0.1), at(0, 0.8, -0.1), 0.32 * build, 0.28 * build, look)
    elif thing == "bag":
        mesh.limb(at(0.27, 0.3, 0.02), at(0.27, 0.45, 0.02), 0.3, 0.24, look)
    elif thing == "umbrella":
        mesh.limb(at(0.15, 0.6, 0.1), at(0.1, 1.2, 0.05), 0.03, 0.03, look)
        mesh.ball(at(0.1, 1.16, 0.05), 0.52, 0.2, look)


def cyclist(mesh: Mesh, frame: Frame, draw: Draw) -> None:
    bicycle(mesh, frame, draw)
    clothes, turn = _dress(draw, RIDER), draw.uniform(-1.0, 1.0)
    lean = draw.uniform(0.0, 0.16)
    for side in (-1, 1):
        pedal = 0.17 * turn * side
        foot, hip = (side * 0.1, 0.3 + pedal, 0.05 + 0.1 * side), (side * 0.09, 0.98, -0.22)
        knee = (side * 0.12, 0.68 + pedal * 0.6, 0.2)
        shoulder, hand = (side * 0.19, 1.47 - lean, 0.06 + lean), (side * 0.27, 1.04, 0.42)
        elbow = (side * 0.27, 1.2 - lean * 0.5, 0.16)
        _joints(mesh, frame, clothes, (foot, knee, hip), (hand, elbow, shoulder))
    mesh.limb(frame.at(0, 0.92, -0.22), frame.at(0, 1.55 - lean, 0.08 + lean), 0.34, 0.42, clothes.top)
    helmet = clothes.hair._replace(colour=anything(draw)) if draw.chance(0.5) else None
    _head(mesh, frame, (0, 1.71 - lean, 0.14 + lean), 0.125, clothes, helmet)


def _joints(mesh: Mesh, frame: Frame, clothes: _Clothes, leg: tuple, arm: tuple) -> None:
    foot, knee, hip = (frame.at(*point) for point in leg)
    hand, elbow, shoulder = (frame.at(*point) for point in arm)
    mesh.limb(foot, knee, 0.12, 0.17, clothes.trousers)
    mesh.limb(knee, hip, 0.17, 0.22, clothes.trousers)
    mesh.ball(foot, 0.09, 0.06, clothes.shoes)
    mesh.limb(hand, elbow, 0.1, 0.12, clothes.sleeves)
    mesh.limb(elbow, shoulder, 0.12, 0.15, clothes.sleeves)
    mesh.ball(hand, 0.06, 0.06, clothes.skin)


def bicycle(mesh: Mesh, frame: Frame, draw: Draw) -> None:
    paint = anything(draw)
    _wheel(mesh, frame, -0.52, 0.34, 0.06, 0.86, grey(draw, 0.35, 0.8), BICYCLE)
    _wheel(mesh, frame, 0.54, 0.34, 0.06, 0.86, grey(draw, 0.35, 0.8), BICYCLE)
    tube = Look(BICYCLE, paint)
    crank, saddle, head = (0, 0.32, -0.05), (0, 0.88, -0.22), (0, 0.9, 0.36)
    for start, end in ((crank, saddle), (crank, (0, 0.78, 0.38)), ((0, 0.76, -0.18), (0, 0.84, 0.37)),
                       (crank, (0, 0.34, -0.52)), ((0, 0.74, -0.18), (0, 0.34, -0.52)),
                       (head, (0, 0.34, 0.54))):  # fmt: skip
        mesh.limb(frame.at(*start), frame.at(*end), 0.055, 0.055, tube)
    dark = Look(BICYCLE, (0.08, 0.08, 0.08))
    mesh.limb(frame.at(0, 0.92, -0.34), frame.at(0, 0.94, -0.06), 0.14, 0.08, dark)
    mesh.ball(frame.at(0, 0.92, -0.24), 0.1, 0.05, dark)
    mesh.limb(frame.at(*head), frame.at(0, 1.02, 0.36), 0.05, 0.05, tube)
    mesh.limb(frame.at(-0.3, 1.03, 0.36), frame.at(0.3, 1.03, 0.36), 0.05, 0.05, dark)
    if draw.chance(0.4):
        basket = Look(BICYCLE, anything(draw), Material.PLANKS, parameters=(0, 0, 0, 0.07, 1.0))
        edge = (-0.2, 0.2, 0.42, 0.72)
        mesh.block(frame, edge, edge, (0.78, 1.02), {"all": basket})
    mesh.shade(frame, 0.16, 0.85, 0.9)


def motorcycle(mesh: Mesh, frame: Frame, draw: Draw, ridden: bool) -> None:
    paint, r = anything(draw), 0.34
    body, dark = Look(MOTORCYCLE, paint), Look(MOTORCYCLE, (0.09, 0.09, 0.1))
    metal = Look(MOTORCYCLE, grey(draw, 0.3, 0.7))
    scooter = draw.chance(0.35)
    for z in (-0.68, 0.72):
        _wheel(mesh, frame, z, r, 0.17, 0.6, grey(draw, 0.3, 0.7), MOTORCYCLE)
    engine = (-0.2, 0.2, -0.3, 0.36)
    mesh.block(frame, engine, engine, (0.24, 0.58), {"all": body if scooter else metal})
    tank = (-0.17, 0.17, -0.12, 0.42)
    if not scooter:
        mesh.block(frame, tank, (-0.12, 0.12, -0.02, 0.36), (0.58, 0.88), {"all": body})
    seat = (-0.15, 0.15, -0.78, -0.08)
    mesh.block(frame, seat, (-0.17, 0.17, -0.85, -0.08), (0.55, 0.8), {"all": body, "top": dark})
    fairing = (-0.24, 0.24, 0.46, 0.66)
    mesh.block(frame, fairing, (-0.18, 0.18, 0.36, 0.52), (0.4 if scooter else 0.72, 1.12), {"all": body})
    for side in (-1, 1):
        mesh.limb(frame.at(side * 0.1, r, 0.72), frame.at(side * 0.09, 0.95, 0.5), 0.07, 0.07, metal)
        mesh.limb(frame.at(side * 0.33, 1.08, 0.3), frame.at(side * 0.38, 1.27, 0.38), 0.03, 0.03, dark)
        mesh.ball(frame.at(side * 0.38, 1.29, 0.38), 0.09, 0.06, dark)
    mesh.limb(frame.at(-0.4, 1.06, 0.3), frame.at(0.4, 1.06, 0.3), 0.06, 0.06, dark)
    lamp = Look(MOTORCYCLE, (1.0, 1.0, 0.92), shape=Shape.DISC, two_sided=True)
    mesh.panel(frame, -0.1, 0.1, 0.86, 1.06, 0.68, lamp)
    mesh.panel(frame, -0.1, 0.1, 0.68, 0.8, -0.87, lamp._replace(colour=(0.8, 0.06, 0.06)))
    mesh.panel(frame, -0.1, 0.1, 0.44, 0.58, -0.89, Look(MOTORCYCLE, (0.9, 0.9, 0.85), two_sided=True))
    mesh.limb(frame.at(0.2, 0.3, -0.2), frame.at(0.22, 0.42, -0.85), 0.1, 0.13, metal)
    if draw.chance(0.35):
        case = (-0.24, 0.24, -1.05, -0.7)
        mesh.block(frame, case, case, (0.8, 1.15), {"all": Look(MOTORCYCLE, anything(draw))})
    mesh.shade(frame, 0.3, 1.0, 1.0)
    if ridden:
        _motorcyclist(mesh, frame, draw)


def _motorcyclist(mesh: Mesh, frame: Frame, draw: Draw) -> None:
    clothes = _dress(draw, RIDER)
    for side in (-1, 1):
        foot, knee, hip = (side * 0.22, 0.34, -0.05), (side * 0.24, 0.66, 0.24), (side * 0.15, 0.86, -0.24)
        hand, elbow, shoulder = (side * 0.36, 1.08, 0.28), (side * 0.36, 1.15, 0.08), (side * 0.2, 1.42, -0.1)
        _joints(mesh, frame, clothes, (foot, knee, hip), (hand, elbow, shoulder))
    mesh.limb(frame.at(0, 0.8, -0.26), frame.at(0, 1.52, -0.08), 0.38, 0.46, clothes.top)
    helmet = Look(RIDER, anything(draw), bulge=(0.7, 0.5))
    mesh.ball(frame.at(0, 1.66, -0.02), 0.15, 0.17, helmet)
    mesh.ball(frame.at(0, 1.67, 0.09), 0.11, 0.07, helmet._replace(colour=(0.06, 0.06, 0.08)))


def _wheel(mesh: Mesh, frame: Frame, z: float, radius: float, thickness: float, rim: float, accent: Colour, label: int):
    """A disc along the frame and a tread across it."""
    look = Look(label, (0.07, 0.07, 0.07), Material.WHEEL, accent, (rim, 4.0), Shape.DISC, two_sided=True)
    top = 2 * radius
    mesh.quad(frame.at(0, 0, z - radius), frame.at(0, 0, z + radius), frame.at(0, top, z + radius),
              frame.at(0, top, z - radius), look)  # fmt: skip
    tread = Look(label, (0.07, 0.07, 0.07), two_sided=True)
    mesh.panel(frame, -thickness / 2, thickness / 2, 0, top, z, tread)
