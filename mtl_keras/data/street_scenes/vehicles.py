"""Cars, vans, lorries, buses and trams, built of blocks in a frame whose forward is the way they drive."""

from mtl_keras.data.street_scenes.draws import Colour, Draw, anything, grey, paint, scaled
from mtl_keras.data.street_scenes.mesh import BUS, CAR, TRAIN, TRUCK, Frame, Look, Material, Mesh, Shape

DARK = (0.06, 0.06, 0.065)


def car(mesh: Mesh, frame: Frame, draw: Draw) -> None:
    style = draw.pick(("sedan", "hatch", "wagon", "suv", "van"), (0.28, 0.28, 0.16, 0.18, 0.1))
    length, width, height, clearance = {
        "sedan": (4.7, 1.82, 1.45, 0.2),
        "hatch": (4.0, 1.75, 1.5, 0.2),
        "wagon": (4.7, 1.82, 1.5, 0.2),
        "suv": (4.6, 1.9, 1.72, 0.3),
        "van": (5.1, 1.95, 1.98, 0.24),
    }[style]
    stretch = draw.uniform(0.93, 1.07)
    length, height, body = length * stretch, height * draw.uniform(0.95, 1.05), paint(draw)
    # The cabin's foot and roof, as shares of the length from the middle.
    foot_rear, foot_front, roof_rear, roof_front = {
        "sedan": (-0.4, 0.24, -0.25, 0.07),
        "hatch": (-0.49, 0.25, -0.4, 0.08),
        "wagon": (-0.49, 0.23, -0.44, 0.08),
        "suv": (-0.49, 0.24, -0.43, 0.1),
        "van": (-0.495, 0.4, -0.48, 0.27),
    }[style]
    waist, half, long = height * (0.55 if style != "van" else 0.5), width / 2, length / 2
    lit, lamp_shape = float(draw.chance(0.4)), draw.uniform()
    panel = Look(CAR, body)
    rear = Look(CAR, body, Material.CAR_END, parameters=(0.0, lit, lamp_shape))
    front = Look(CAR, body, Material.CAR_END, parameters=(1.0, lit, lamp_shape))
    side = Look(CAR, body, Material.CAR_SIDE, parameters=(float(draw.integer(1, 2)),))
    mesh.block(
        frame,
        (-half, half, -long, long),
        (-half * 0.98, half * 0.98, -long * 0.985, long * 0.96),
        (clearance, waist),
        {"back": rear, "front": front, "left": side, "right": side, "top": panel},
    )
    window = Look(CAR, body, Material.GLASS, parameters=(0.05, 0.14, float(draw.integer(2, 3))))
    screen = Look(CAR, body, Material.GLASS, parameters=(0.06, 0.12, 1.0))
    roof = Look(CAR, scaled(body, 0.3)) if draw.chance(0.12) else panel
    mesh.block(
        frame,
        (-half * 0.96, half * 0.96, foot_rear * length, foot_front * length),
        (-half * 0.8, half * 0.8, roof_rear * length, roof_front * length),
        (waist, height),
        {"back": screen, "front": screen, "left": window, "right": window, "top": roof},
    )
    _chassis(mesh, frame, half * 0.9, long * 0.94, clearance, CAR)
    radius = 0.17 * height + 0.06
    rim = grey(draw, 0.25, 0.85)
    for axle in (-0.31, 0.32):
        _axle(mesh, frame, half, axle * length, radius, rim, CAR)
    mesh.shade(frame, half, long, height)


def truck(mesh: Mesh, frame: Frame, draw: Draw) -> None:
    """A lorry with a box, a tank or a flat bed behind its cab."""
    length, height, half = draw.uniform(6.5, 10.5), draw.uniform(2.9, 3.8), 1.22
    long, body, cab = length / 2, paint(draw), 2.0
    cab_height = draw.uniform(2.4, min(3.1, height))
    lit = float(draw.chance(0.4))
    end = Look(TRUCK, body, Material.COACH_END, scaled(body, 0.5), (1.0, 0.52, 0.9, 0.0, lit, 0.3))
    window = Look(TRUCK, body, Material.COACH_SIDE, scaled(body, 0.6), (1.6, 0.55, 0.9, 0.0, 0.2))
    plain = Look(TRUCK, body)
    mesh.block(
        frame,
        (-half, half, long - cab, long),
        (-half * 0.97, half * 0.97, long - cab, long - 0.18),
        (0.5, cab_height),
        {"back": plain, "front": end, "left": window, "right": window, "top": plain},
    )
    load, mark = anything(draw), anything(draw)
    ribs, share, salt = draw.uniform(0.4, 1.4), draw.pick((0.0, 0.6, 0.9)), draw.uniform(0, 99)
    flank = Look(TRUCK, load, Material.CARGO, mark, (ribs, share, salt))
    rear = Look(TRUCK, load, Material.CARGO, mark, (ribs, share * draw.pick((0.0, 0.7)), salt, 1.0))
    bed = (-half, half, -long, long - cab - 0.25)
    kind = draw.pick(("box", "tipper", "flat"), (0.7, 0.2, 0.1))
    top = {"box": height, "tipper": height * 0.72, "flat": 1.35}[kind]
    flare = 1.0 if kind != "tipper" else 1.06
    high = (bed[0] * flare, bed[1] * flare, bed[2] * flare, bed[3])
    mesh.block(frame, bed, high, (0.95, top), {"all": flank, "back": rear, "top": Look(TRUCK, scaled(load, 0.8))})
    if kind == "flat":
        crate = Look(TRUCK, anything(draw), Material.PLANKS, parameters=(0, 0, 0, 0.2, 1.0))
        inner = (-half * 0.8, half * 0.8, -long * 0.8, long - cab - 1.0)
        mesh.block(frame, inner, inner, (1.35, height * 0.75), {"all": crate})
    _chassis(mesh, frame, half * 0.86, long * 0.97, 0.96, TRUCK, bottom=0.45)
    for axle in (-long + 1.2, -long + 2.35, long - 1.1):
        _axle(mesh, frame, half, axle, 0.5, grey(draw, 0.2, 0.7), TRUCK)
    mesh.shade(frame, half, long, height)


def bus(mesh: Mesh, frame: Frame, draw: Draw) -> None:
    length, height, half = draw.uniform(9.5, 12.0), draw.uniform(2.9, 3.3), 1.25
    if draw.chance(0.12):
        height = 4.1
    long, body, accent = length / 2, paint(draw), anything(draw)
    stripe, lit = draw.uniform(0.0, 0.42), float(draw.chance(0.6))
    salt, low, high = draw.uniform(0, 99), draw.uniform(0.4, 0.5), draw.uniform(0.82, 0.88)
    window = draw.uniform(1.1, 1.8)
    front = Look(BUS, body, Material.COACH_END, accent, (1.0, 0.32, 0.85, 1.0, lit, stripe * 0.6))
    rear = Look(BUS, body, Material.COACH_END, accent, (0.0, 0.55, 0.85, float(draw.chance(0.5)), lit, stripe))
    kerb = Look(BUS, body, Material.COACH_SIDE, accent, (window, low, high, float(draw.integer(2, 3)), stripe, salt))
    road = Look(BUS, body, Material.COACH_SIDE, accent, (window, low, high, 0.0, stripe, salt))
    roof = Look(BUS, scaled(body, 0.9))
    low_edge = (-half, half, -long, long)
    high_edge = (-half * 0.96, half * 0.96, -long, long * 0.99)
    looks = {"back": rear, "front": front, "left": road, "right": kerb, "top": roof}
    mesh.block(frame, low_edge, high_edge, (0.32, height), looks)
    _chassis(mesh, frame, half * 0.85, long * 0.96, 0.35, BUS)
    for axle in (-long * 0.55, long * 0.5):
        _axle(mesh, frame, half, axle, 0.5, grey(draw, 0.3, 0.7), BUS)
    # Mirrors, the ears of a bus.
    for side in (-1, 1):
        mesh.panel(frame.moved(side * (half + 0.16), 0, long), -0.1, 0.1, height * 0.58, height * 0.7, 0.1,
                   Look(BUS, DARK, two_sided=True))  # fmt: skip
    mesh.shade(frame, half, long, height)


def tram(mesh: Mesh, frame: Frame, draw: Draw) -> None:
    """Two or three cars with skirts to the ground, slanted noses, gangways and a pantograph."""
    modules, length, height, half = draw.integer(2, 3), draw.uniform(7.0, 9.5), draw.uniform(3.3, 3.6), 1.2
    body, accent = paint(draw), anything(draw)
    stripe, lit, salt = draw.uniform(0.1, 0.4), float(draw.chance(0.7)), draw.uniform(0, 99)
    nose = Look(TRAIN, body, Material.COACH_END, accent, (1.0, 0.4, 0.84, 1.0, lit, stripe))
    tail = Look(TRAIN, body, Material.COACH_END, accent, (0.0, 0.4, 0.84, 1.0, lit, stripe))
    side = Look(TRAIN, body, Material.COACH_SIDE, accent, (draw.uniform(1.2, 2.2), 0.42, 0.8, 2.0, stripe, salt))
    roof = Look(TRAIN, grey(draw, 0.2, 0.6))
    gangway = Look(TRAIN, (0.1, 0.1, 0.11))
    start = -(length + 0.6) * modules / 2
    for number in range(modules):
        rear, front = start + number * (length + 0.6), start + number * (length + 0.6) + length
        low = (-half, half, rear, front)
        high = (-half * 0.93, half * 0.93, rear + 0.75 * (number == 0), front - 0.75 * (number == modules - 1))
        ends = {
            "back": tail if number == 0 else gangway,
            "front": nose if number == modules - 1 else gangway,
            "left": side,
            "right": side,
            "top": roof,
        }
        mesh.block(frame, low, high, (0.18, height), ends)
        if number < modules - 1:
            joint = (-half * 0.85, half * 0.85, front, front + 0.6)
            mesh.block(frame, joint, joint, (0.3, height * 0.95), {"all": gangway})
    box = (-half * 0.6, half * 0.6, start + 2.0, start + 4.5)
    mesh.block(frame, box, box, (height, height + 0.35), {"all": roof})
    arm = Look(TRAIN, (0.15, 0.15, 0.16))
    for x in (-0.5, 0.5):
        mesh.limb(frame.at(x, height, start + 5), frame.at(x * 1.4, height + 0.8, start + 6), 0.07, 0.07, arm)
        mesh.limb(frame.at(x * 1.4, height + 0.8, start + 6), frame.at(x, height + 1.5, start + 5), 0.06, 0.06, arm)
    mesh.limb(frame.at(-0.8, height + 1.5, start + 5), frame.at(0.8, height + 1.5, start + 5), 0.1, 0.1, arm)
    mesh.shade(frame, half, -start, height)


def _chassis(mesh: Mesh, frame: Frame, half: float, long: float, top: float, label: int, bottom: float = 0.13) -> None:
    edge = (-half, half, -long, long)
    mesh.block(frame, edge, edge, (bottom, top), {"all": Look(label, DARK), "top": None})


def _axle(mesh: Mesh, frame: Frame, half: float, z: float, radius: float, rim: Colour, label: int) -> None:
    """Two wheels: a disc outside and, for the view along the street, the tread."""
    tyre = Look(label, DARK, Material.WHEEL, rim, (0.66, 4.0), Shape.DISC)
    tread = Look(label, DARK, two_sided=True)
    for side in (-1, 1):
        x = side * (half + 0.015)
        near, far = z + radius * side * -1, z + radius * side
        # Seen from outside, the right side's left is the rear.
        top = 2 * radius
        mesh.quad(frame.at(x, 0, near), frame.at(x, 0, far), frame.at(x, top, far), frame.at(x, top, near), tyre)
        inner, outer = sorted((x, x - side * 0.24))
        mesh.panel(frame, inner, outer, 0.0, top, z, tread)
