"""Trees, bushes and hedges: trunks, and overlapping cards frayed like leaves."""

from mtl_keras.data.street_scenes.draws import Draw, cosine_sine, earth, foliage, scaled
from mtl_keras.data.street_scenes.mesh import VEGETATION, Frame, Look, Material, Mesh, Shape


def _leaves(draw: Draw, colour, accent, fray: float) -> Look:
    salt = draw.uniform(0.0, 255.0)
    return Look(VEGETATION, colour, Material.LEAVES, accent, (salt, fray), Shape.LEAVES, bulge=(0.6, 0.6))


def tree(mesh: Mesh, frame: Frame, draw: Draw, height: float, species: int) -> None:
    """A tree of a species: 0 round, 1 tall, 2 conifer; the crown's colours come from the draw."""
    colour, accent, fray = foliage(draw), foliage(draw), draw.uniform(0.45, 0.8)
    bark = Look(VEGETATION, scaled(earth(draw), 0.6), bulge=(0.8, 0.0))
    clear = height * draw.uniform(0.22, 0.4) if species < 2 else height * 0.1
    girth = 0.03 * height + 0.06
    mesh.limb(frame.at(0, -0.3, 0), frame.at(0, clear + height * 0.15, 0), girth, girth * 0.7, bark)
    crown, reach = height - clear, height * draw.uniform(0.22, 0.34) * (0.6 if species == 1 else 1.0)
    if species == 2:
        for level in range(5):
            share = level / 5
            foot = frame.at(0, clear + crown * share * 0.92, 0.05 * level)
            head = frame.at(0, clear + crown * min(share + 0.42, 1.0), 0.05 * level)
            look = _leaves(draw, scaled(colour, 0.8 + 0.1 * level), accent, fray)
            mesh.limb(foot, head, reach * 2.1 * (1.05 - share), reach * 0.5 * (1.05 - share), look)
        mesh.shade(frame, reach * 0.8, reach * 0.8, height * 0.5)
        return
    middle = clear + crown * 0.5
    look = _leaves(draw, scaled(colour, 0.8), accent, fray)
    mesh.ball(frame.at(0, middle, reach * 0.3), reach, crown * 0.56, look)
    for number in range(draw.integer(5, 8)):
        east, north = cosine_sine(number * 2.4)
        out = reach * draw.uniform(0.35, 0.75)
        y = middle + crown * draw.uniform(-0.3, 0.38)
        tone = 0.78 + 0.32 * (y - clear) / crown
        size = reach * draw.uniform(0.4, 0.62)
        look = _leaves(draw, scaled(colour, tone), accent, fray)
        mesh.ball(frame.at(east * out, y, north * out), size, size * 0.9, look)
    for lean in (-0.5, 0.45):
        mesh.limb(frame.at(0, clear * 0.9, 0), frame.at(lean * reach, middle, 0.1), girth * 0.5, girth * 0.25, bark)
    mesh.shade(frame, 0.25, 0.25, 0.5)
    # The crown's own shadow: wide, and cast from well above the ground.
    mesh.shade(frame, reach * 0.8, reach * 0.8, height * 0.8)


def bush(mesh: Mesh, frame: Frame, draw: Draw, size: float) -> None:
    colour, accent, fray = foliage(draw), foliage(draw), draw.uniform(0.3, 0.6)
    for offset in (-0.5, 0.45, 0.0):
        half = size * draw.uniform(0.45, 0.7)
        y = half * draw.uniform(0.55, 0.85)
        tone = draw.uniform(0.85, 1.1)
        look = _leaves(draw, scaled(colour, tone), accent, fray)
        mesh.ball(frame.at(offset * size, y, 0.2 * abs(offset) * size), half, half * 1.05, look)
    mesh.shade(frame, size * 0.8, size * 0.5, size)


def hedge(mesh: Mesh, frame: Frame, draw: Draw, length: float, height: float) -> None:
    """A trimmed or shaggy hedge along the frame's forward, its near end at the origin."""
    salt = draw.uniform(0.0, 255.0)
    colour, accent = foliage(draw), foliage(draw)
    look = Look(VEGETATION, colour, Material.LEAVES, accent, (salt, draw.uniform(0.05, 0.3)), Shape.HEDGE,
                bulge=(0.0, 0.4))  # fmt: skip
    edge = (-0.45, 0.45, 0.0, length)
    mesh.block(frame, edge, edge, (-0.1, height), {"all": look, "top": None})
    middle = (-0.05, 0.05, 0.3, length)
    mesh.block(frame, middle, middle, (-0.1, height), {"left": look, "right": look, "back": look})
    mesh.shade(frame.moved(0, 0, length / 2), 0.6, length / 2, height)


def thicket(mesh: Mesh, frame: Frame, draw: Draw, width: float, height: float) -> None:
    """A distant row of trees across the frame, centred at its origin."""
    colour, accent = foliage(draw), foliage(draw)
    count = max(3, int(width / height * 1.6))
    for number in range(count):
        x = (number + draw.uniform(0.1, 0.9)) / count - 0.5
        tall = height * draw.uniform(0.55, 1.0)
        look = _leaves(draw, scaled(colour, draw.uniform(0.75, 1.1)), accent, draw.uniform(0.15, 0.4))
        crown = frame.at(x * width, tall * 0.4, draw.uniform(-3, 3))
        mesh.ball(crown, height * draw.uniform(0.5, 0.8), tall * 0.62, look)
