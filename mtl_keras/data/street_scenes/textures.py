"""Textures of what stands: facades, roofs, masonry, planks, leaves, cloth, signs and signals."""

import numpy as np

from mtl_keras.data.street_scenes import noise
from mtl_keras.data.street_scenes.surface import Surface, mix, repeat


def plain(surface: Surface) -> np.ndarray:
    return surface.colour * (1 + surface.fractal(surface.u, surface.v, 0.05) * np.float32(0.1))


def facade(surface: Surface) -> np.ndarray:
    """Rows of windows over a ground floor of shops or doors.

    Parameters: bay width and storey height in metres, window's share of each, kind of wall (below 1 plaster, below 2
    brick, above glass), salt.
    """
    bay, storey, wide, high, kind, salt = (surface.parameter(number) for number in range(6))
    wall = _wall(surface, kind)
    column, x = repeat(surface.u, bay)
    row, y = repeat(surface.v, storey)
    luck = noise.cell_hash(column, row, salt)
    ground = row < 1
    side = np.where(ground, np.minimum(wide + 0.22, 0.94), wide)
    tall = np.where(ground, 0.84, high)
    x, y = np.abs(x - 0.5) * 2 / side, np.where(ground, np.abs(y - 0.38), np.abs(y - 0.52)) * 2 / tall
    # The last storey that does not fit stays wall, as does a last bay.
    fits = ((row + 1) * storey < surface.height - 0.15) & ((column + 1) * bay < surface.width + 0.3)
    glass = (x < 1) & (y < 1) & fits
    frame = glass & ((x > 0.84) | (y > 0.9) | ((x < 0.09) & (high > 0.45)))
    # Panes mirror the sky in their upper part; some have curtains, some are lit.
    pane = np.where(luck < 0.25, 0.62, 0.16 + 0.3 * luck) + np.where(surface.v > 9, 0.16, 0.06) * (1 - y)
    panes = np.stack([pane * 0.92, pane * 0.98, pane * 1.06]).astype(np.float32)
    colour = mix(wall, panes, glass.astype(np.float32))
    colour = mix(colour, surface.accent, frame * np.minimum(1, surface.fade(0.06) + 0.3))
    band = ground & (surface.v > storey * 0.84) & (surface.v < storey * 0.97) & (luck > 0.3)
    colour = mix(colour, _shop_colours(column, salt), band.astype(np.float32))
    lit = (glass & ~frame & (luck > 0.86)).astype(np.float32)
    surface.glow = lit * np.float32(0.55)
    colour = mix(colour, (0.95, 0.82, 0.55), lit * np.float32(0.75))
    ledge = (np.abs(surface.v / storey - np.floor(surface.v / storey)) < 0.035) & (kind > 0.4)
    return colour * (1 - 0.18 * ledge)


def _wall(surface: Surface, kind: np.ndarray) -> np.ndarray:
    """Plaster with stains, brick with joints, or cladding."""
    u, v = surface.u, surface.v
    stains = surface.fractal(u, v * 0.35, 0.09) * 0.16
    row, y = repeat(v, 0.16)
    column, x = repeat(u + row * 0.2, 0.4)
    bricks = (noise.cell_hash(column, row) - np.float32(0.5)) * 0.3 - ((y < 0.16) | (x < 0.07)) * 0.2
    return surface.colour * (1 + stains + np.where((kind >= 1) & (kind < 2), bricks * surface.fade(0.08), 0))


def _shop_colours(column: np.ndarray, salt: np.ndarray) -> np.ndarray:
    """One colour a bay for the signs above shops."""
    return np.stack([noise.cell_hash(np.floor(column / 2), column * 0 + 77 + k, salt) for k in range(3)])


def roof(surface: Surface) -> np.ndarray:
    row, y = repeat(surface.v, 0.4)
    column, x = repeat(surface.u + row * 0.15, 0.3)
    tiles = (noise.cell_hash(column, row) - np.float32(0.5)) * 0.25 - (y < 0.2) * 0.2
    stains = surface.fractal(surface.u, surface.v, 0.08) * 0.2
    return surface.colour * (1 + tiles * surface.fade(0.2) + stains)


def masonry(surface: Surface) -> np.ndarray:
    """Walls: parameters: course height, stone length, joint darkness, graffiti's share, salt."""
    course, stone, depth, graffiti, salt = (surface.parameter(number) for number in range(5))
    row, y = repeat(surface.v, course)
    column, x = repeat(surface.u + row * stone * 0.5, stone)
    near = np.clip(course * 0.35 / surface.spacing - 0.6, 0, 1)
    tone = (noise.cell_hash(column, row, salt) - np.float32(0.5)) * 0.36
    tone = (tone - ((y < 0.14) | (x * stone < 0.035)) * depth) * near
    tone = tone + surface.fractal(surface.u + salt, surface.v, 0.06) * 0.24
    colour = surface.colour * (1 + tone)
    scrawl = surface.fractal(surface.u * 1.1 + salt, surface.v * 2.2, 0.1)
    paint = (np.abs(scrawl) < 0.05) & (surface.fractal(surface.u, salt, 0.4) + 0.5 < graffiti) & (surface.up < 0.8)
    colour = mix(colour, surface.accent, paint.astype(np.float32))
    return colour * (1 - 0.3 * (surface.up > 0.93) * surface.fade(0.1))


def planks(surface: Surface) -> np.ndarray:
    """Boards, upright or lying; parameters 3 and 4: board's width, 1 for lying boards; 5: salt."""
    board, lying, salt = surface.parameter(3), surface.parameter(4), surface.parameter(5)
    along, wide = np.where(lying > 0.5, surface.u, surface.v), np.where(lying > 0.5, surface.v, surface.u)
    number, place = repeat(wide, np.maximum(board, 0.02))
    near = np.clip(board * 0.4 / surface.spacing - 0.5, 0, 1)
    tone = (noise.cell_hash(number, number * 0, salt) - np.float32(0.5)) * 0.4 - (place < 0.14) * 0.5
    tone = tone * near + surface.fractal(along * 0.3 + number * 3.1, wide * 3, 0.05) * 0.2
    return surface.colour * (1 + tone)


def leaves(surface: Surface) -> np.ndarray:
    """Clumps of leaves, darker inside and below; parameter 0: salt."""
    salt = surface.parameter(0)
    clumps = surface.fractal(surface.u + salt, surface.v + salt * 3, 0.02)
    fine = surface.grain(surface.u + salt, surface.v, 0.07)
    autumn = np.clip(surface.fractal(surface.u * 0.6, surface.v + salt * 5, 0.1) * 1.6, 0, 1) * 0.5
    tone = 0.74 + 0.34 * surface.up + clumps * 0.8 + fine * 0.3
    return mix(surface.colour, surface.accent, autumn) * np.maximum(tone, 0.12)


def cloth(surface: Surface) -> np.ndarray:
    """Clothes: parameters: 1 for stripes, 2 for a lower part in the accent; the share of that part."""
    style, share = surface.parameter(0), surface.parameter(1)
    _, stripe = repeat(surface.v, 0.16)
    striped = (np.abs(style - 1) < 0.5) & (stripe < 0.5)
    lower = (np.abs(style - 2) < 0.5) & (surface.up < share)
    colour = mix(surface.colour, surface.accent, (striped | lower).astype(np.float32))
    return colour * (1 + surface.fractal(surface.u, surface.v * 0.5, 0.03) * np.float32(0.3))


def sign(surface: Surface) -> np.ndarray:
    """Parameters: shape (0 disc, 1 square or octagon, 2 triangle, 3 board with lines), border's share, mark, salt."""
    shape, border, mark, salt = (surface.parameter(number) for number in range(4))
    # A triangle's up runs from its left corner to its tip, which is half a width to the right.
    x, y = surface.across - 0.5 + np.where(shape == 2, surface.up * np.float32(0.5), 0), surface.up - 0.5
    upright = shape == 2
    box = np.maximum(np.abs(x), np.abs(y)) * 2
    disc = np.sqrt(x * x + y * y) * 2
    triangle = np.maximum((0.34 - surface.up) / 0.34, (surface.up + 2 * np.abs(x) - 0.34) / 0.66)
    reach = np.where(shape < 0.5, disc, np.where(shape < 1.5, box, np.where(shape < 2.5, triangle, box)))
    colour = mix(surface.colour, surface.accent, (reach > 1 - border).astype(np.float32))
    bar = np.where(mark < 1, np.abs(y) < 0.11, np.where(mark < 2, np.abs(x) < 0.1, np.abs(x + y) < 0.1))
    stroke, centre = np.where(upright, 0.07, 0.16), np.where(upright, -0.12, -0.04)
    blob = (np.abs(x) < stroke) & (np.abs(y - centre) < 0.2) & (mark > 2.5)
    pictogram = ((bar & (mark < 2.5) & (mark > 0)) | blob) & (np.maximum(box, disc) < 0.68) & (shape < 2.5)
    row, line = repeat(surface.up, 0.24)
    words = noise.cell_hash(np.floor(surface.across * 9), row, salt) < 0.62
    text = (shape > 2.5) & (np.abs(line - 0.5) < 0.24) & words & (box < 0.86)
    ink = np.where(mark > 3.5, 0.05, 0.95).astype(np.float32)
    return colour + (ink - colour) * (pictogram | text)


def signal(surface: Surface) -> np.ndarray:
    """Three lamps in a dark box; parameter 0: the lit one, 0 red to 2 green."""
    lit = surface.parameter(0)
    number, y = repeat(surface.up * 3 * 0.999, 1.0)
    x, y = (surface.across - 0.5) * surface.width, (y - 0.5) * surface.height / 3
    inside = x * x + y * y < np.square(np.minimum(surface.width, surface.height / 3) * np.float32(0.4))
    lamps = np.array([[0.2, 1.0, 0.35], [1.0, 0.75, 0.15], [1.0, 0.12, 0.1]], np.float32)
    lamp = np.take(lamps, number.astype(np.int32), axis=0).T
    on = (np.abs(2 - number - lit) < 0.5) & inside
    surface.glow = on.astype(np.float32)
    return mix(surface.colour, lamp * np.where(on, 1, 0.22).astype(np.float32), inside.astype(np.float32))
