"""Textures of what lies: asphalt with markings, paving, grass."""

import dataclasses

import numpy as np

from mtl_keras.data.street_scenes.surface import Surface, mix, repeat


@dataclasses.dataclass(frozen=True)
class Markings:
    """What is painted or laid on the road; sideways places and places along the street in metres.

    Args:
        solid: sideways places of solid lines.
        dashed: sideways places of dashed lines.
        edges: the road's two sides.
        crossings: stretches along the street (start, end) striped for people on foot.
        stops: places along the street of stop lines, each with the sides between which it runs.
        junctions: stretches without lines.
        rails: sideways places of the axes of tram tracks.
        colour: of the lines.
        wear: 0 fresh to 1 worn off.
        patches: strength of repair patches and stains.
        dash: length of a dash and its gap together.
    """

    solid: tuple[float, ...]
    dashed: tuple[float, ...]
    edges: tuple[float, float]
    crossings: tuple[tuple[float, float], ...]
    stops: tuple[tuple[float, float, float], ...]
    junctions: tuple[tuple[float, float], ...]
    rails: tuple[float, ...]
    colour: tuple[float, float, float]
    wear: float
    patches: float
    dash: float


def asphalt(surface: Surface, markings: Markings) -> np.ndarray:
    """Parameter 0: the sideways place of the face's left side; parameter 1: its distance along the street, if any."""
    x, z = surface.position[0], surface.position[2]
    sideways = surface.u + surface.parameter(0)
    stains = surface.fractal(x, z, 0.17)
    tone = 1 + surface.grain(x, z, 0.05) * 0.16 + stains * 0.22 * markings.patches
    # Wheels polish two tracks a lane; patches of newer asphalt are long along the street.
    column, _ = repeat(sideways, 2.3)
    row, _ = repeat(z + column * 5.3, 9.0)
    patch = surface.fractal(column * 31.7, row * 17.3, 1.0)
    tone += np.where(patch > 0.3, -0.16 * markings.patches, 0).astype(np.float32)
    colour = surface.colour * tone
    keep = (surface.fractal(x * 3, z * 3, 0.2) + 0.5 > markings.wear * 0.8) * np.float32(0.92)
    keep = keep * np.minimum(1, surface.fade(0.04) + 0.45)
    return _rails(mix(colour, markings.colour, _lines(sideways, z, markings) * keep), sideways, surface, markings)


def _lines(sideways: np.ndarray, z: np.ndarray, markings: Markings) -> np.ndarray:
    """1 on paint, 0 beside it."""
    painted = np.zeros(z.shape, bool)
    for place in markings.solid:
        painted |= np.abs(sideways - place) < 0.08
    _, phase = repeat(z, markings.dash)
    dash = phase < 0.45
    for place in markings.dashed:
        painted |= (np.abs(sideways - place) < 0.07) & dash
    for start, end in markings.junctions:
        painted &= (z < start) | (z > end)
    left, right = markings.edges
    on_road = (sideways > left + 0.2) & (sideways < right - 0.2)
    _, stripe = repeat(sideways, 1.0)
    for start, end in markings.crossings:
        painted = np.where((z > start) & (z < end), (stripe < 0.5) & on_road, painted)
    for place, start, end in markings.stops:
        painted |= (np.abs(z - place) < 0.22) & (sideways > start) & (sideways < end)
    return painted.astype(np.float32)


def _rails(colour, sideways, surface: Surface, markings: Markings) -> np.ndarray:
    for place in markings.rails:
        offset = np.abs(sideways - np.float32(place))
        bed = (np.abs(offset - 0.72) < 0.22) * np.float32(0.25)
        colour = mix(colour, (0.25, 0.24, 0.23), bed * surface.fade(0.1))
        rail = (np.abs(offset - 0.72) < 0.06) * np.float32(0.9)
        colour = mix(colour, (0.62, 0.62, 0.66), rail * np.minimum(1, surface.fade(0.05) + 0.35))
    return colour


def paving(surface: Surface) -> np.ndarray:
    """Slabs; parameters: sideways place of the left side, slab length, slab width, joint darkness."""
    x, z = surface.position[0], surface.position[2]
    along, wide = surface.parameter(1), surface.parameter(2)
    column, place = repeat(surface.u, wide)
    row, phase = repeat(z + column * along * 0.5, along)
    near = surface.fade(0.06)
    joint = ((place * wide < 0.04) | (phase * along < 0.04)) * near
    tone = 1 + surface.grain(column * 7.1, row * 3.3, 0.9) * 0.3 * surface.fade(0.2)
    tone += surface.fractal(x, z, 0.12) * 0.2 + surface.grain(x, z, 0.04) * 0.12
    return surface.colour * (tone - joint * surface.parameter(3))


def grass(surface: Surface) -> np.ndarray:
    """Grass over bare soil (the accent); parameter 1: share of soil."""
    x, z = surface.position[0], surface.position[2]
    clumps = surface.fractal(x, z, 0.11)
    bare = np.clip((surface.fractal(x + 90, z + 40, 0.5) + surface.parameter(1) - 0.5) * 5 + 0.5, 0, 1)
    colour = mix(surface.colour, surface.accent, bare)
    blades = surface.grain(x, z * 0.4, 0.05) * 0.45 + clumps * 0.5
    return colour * (1 + blades)
