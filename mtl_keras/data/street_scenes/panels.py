"""Textures of vehicles: body sides and ends, window bands, cargo boxes, wheels."""

import numpy as np

from mtl_keras.data.street_scenes import noise
from mtl_keras.data.street_scenes.surface import Surface, mix, repeat


def car_side(surface: Surface) -> np.ndarray:
    """Doors' gaps, handles, a dark sill; parameters: number of doors, wheels' radius over the length."""
    doors = surface.parameter(0)
    number, place = repeat((surface.across - 0.25) / 0.5, 1 / doors)
    inside = (number >= 0) & (number < doors)
    gap = (np.abs(place - 0.5) > 0.485) & (surface.across > 0.24) & (surface.across < 0.76)
    handle = inside & (np.abs(place - 0.82) < 0.07) & (np.abs(surface.up - 0.8) < 0.05)
    tone = 1 - (gap | handle) * 0.5 * surface.fade(0.03) - (surface.up < 0.2) * 0.45
    # The flank catches the sky along its shoulder.
    tone = tone + np.clip(1 - np.abs(surface.up - 0.72) * 6, 0, 1) * 0.16
    return surface.colour * tone


def car_end(surface: Surface) -> np.ndarray:
    """Front or rear; parameters: 1 for the front; 1 for lamps that are lit; shape of the lamps."""
    front, lit, shape = (surface.parameter(number) for number in range(3))
    x, y = np.abs(surface.across - 0.5) * 2, surface.up
    colour = surface.colour * (1 - (y < 0.26) * 0.5 + (y > 0.9) * 0.08)
    lamp = (x > 0.66 - 0.2 * shape) & (x < 0.97) & (np.abs(y - 0.68) < 0.1 + 0.1 * (1 - shape))
    grille = (front > 0.5) & (x < 0.5) & (np.abs(y - 0.52) < 0.13)
    plate = (x < 0.3) & (np.abs(y - np.where(front > 0.5, 0.28, 0.46)) < 0.075)
    colour = mix(colour, (0.06, 0.06, 0.07), grille.astype(np.float32))
    colour = mix(colour, (0.9, 0.9, 0.82), plate.astype(np.float32))
    lamps = np.where(front > 0.5, np.array([[0.93], [0.93], [0.88]]), np.array([[0.75], [0.06], [0.07]]))
    colour = mix(colour, lamps.astype(np.float32), lamp.astype(np.float32))
    surface.glow = (lamp & (lit > 0.5)).astype(np.float32)
    return colour


def glass(surface: Surface) -> np.ndarray:
    """A window in the body's colour; parameters: frame's share sideways, above, number of panes."""
    side, above, panes = (surface.parameter(number) for number in range(3))
    number, place = repeat(surface.across, 1 / np.maximum(panes, 1))
    edge = np.minimum(place, 1 - place) < side
    pane = ~edge & (surface.up < 1 - above) & (surface.up > 0.04)
    # A slanting reflection of the sky.
    shine = 0.16 + 0.22 * surface.up + ((surface.across + surface.up * 0.4) % 0.5 < 0.16) * 0.1
    panes_colour = np.stack([shine * 0.9, shine, shine * 1.1]).astype(np.float32)
    return mix(surface.colour, panes_colour, pane.astype(np.float32))


def coach_side(surface: Surface) -> np.ndarray:
    """A long body with a band of windows and doors.

    Parameters: window's length in metres, the band's lower and upper edge (shares of the height), number of doors,
    share of the stripe in the accent colour, salt.
    """
    length, low, high, doors, stripe, salt = (surface.parameter(number) for number in range(6))
    number, place = repeat(surface.u, length)
    band = (surface.up > low) & (surface.up < high)
    pane = band & (np.abs(place - 0.5) < 0.45)
    door_number, door_place = repeat(surface.across * np.maximum(doors, 0.01) + 0.35, 1.0)
    door = (doors > 0.5) & (door_place * surface.width / np.maximum(doors, 0.5) < 1.35) & (surface.up < high)
    door &= surface.up > 0.05
    rim = (door_place * surface.width / np.maximum(doors, 0.5) - 0.675) * 1.4815
    edge = door & ((np.abs(rim) > 0.9) | (np.abs(rim) < 0.05))
    colour = mix(surface.colour, surface.accent, (surface.up < stripe).astype(np.float32))
    dark = 0.14 + 0.22 * np.clip((surface.up - low) * 2, 0, 1) + noise.cell_hash(number, number * 0, salt) * 0.08
    panes = np.stack([dark * 0.92, dark, dark * 1.08]).astype(np.float32)
    colour = mix(colour, panes, (pane | door).astype(np.float32))
    return mix(colour, (0.07, 0.07, 0.08), (edge | (band & ~pane)) * np.minimum(1, surface.fade(0.05) + 0.3))


def coach_end(surface: Surface) -> np.ndarray:
    """Front or rear of a bus, tram or lorry's cab.

    Parameters: 1 for the front, the window's lower edge, the window's upper edge, 1 for a lit display above it, 1 for
    lit lamps, stripe's share.
    """
    front, low, high, display, lit, stripe = (surface.parameter(number) for number in range(6))
    x, y = np.abs(surface.across - 0.5) * 2, surface.up
    colour = mix(surface.colour, surface.accent, (y < stripe).astype(np.float32))
    window = (x < 0.88) & (y > low) & (y < high)
    shine = 0.13 + 0.25 * np.clip((y - low) * 2, 0, 1)
    colour = mix(colour, np.stack([shine * 0.92, shine, shine * 1.1]).astype(np.float32), window.astype(np.float32))
    lamp = (x > 0.62) & (x < 0.92) & (np.abs(y - low * 0.42) < 0.05)
    lamps = np.where(front > 0.5, np.array([[0.93], [0.93], [0.86]]), np.array([[0.72], [0.06], [0.06]]))
    colour = mix(colour, lamps.astype(np.float32), lamp.astype(np.float32))
    text = noise.cell_hash(np.floor(surface.across * 26), np.floor(y * 60), surface.face) > 0.45
    sign = (display > 0.5) & (x < 0.62) & (y > high + 0.015) & (y < high + 0.09)
    colour = mix(colour, (0.05, 0.05, 0.05), sign.astype(np.float32))
    colour = mix(colour, (1.0, 0.62, 0.1), (sign & text).astype(np.float32))
    surface.glow = ((lamp & (lit > 0.5)) | (sign & text)).astype(np.float32)
    return colour * (1 - (y < 0.1) * 0.5)


def cargo(surface: Surface) -> np.ndarray:
    """A lorry's box; parameters: rib spacing in metres, share of the painted field, salt, 1 for the rear's doors."""
    ribs, share, salt, rear = (surface.parameter(number) for number in range(4))
    _, rib = repeat(surface.u, ribs)
    tone = 1 - (rib < 0.08) * 0.22 * surface.fade(0.05) + surface.fractal(surface.u, surface.v * 0.4, 0.06) * 0.14
    x, y = np.abs(surface.across - 0.5) * 2, np.abs(surface.up - 0.58) * 2
    field = (x < 0.8) & (y < share) & (share > 0.05)
    letters = noise.cell_hash(np.floor(surface.across * 16), np.floor(surface.up * 7), salt) > 0.5
    letters &= (x < 0.6) & (y < share * 0.5)
    colour = mix(surface.colour * tone, surface.accent, (field & ~letters).astype(np.float32))
    seam = (rear > 0.5) & ((x < 0.025) | (x > 0.95) | ((np.abs(x - 0.35) < 0.03) & (surface.up > 0.06)))
    lamp = (rear > 0.5) & (x > 0.78) & (surface.up < 0.07)
    colour = mix(colour, (0.2, 0.2, 0.2), seam * np.float32(0.55))
    return mix(colour, (0.75, 0.08, 0.06), lamp.astype(np.float32))


def wheel(surface: Surface) -> np.ndarray:
    """A tyre (the colour) round a rim (the accent); parameters: rim's share of the radius, number of spokes' lines."""
    rim, spokes = surface.parameter(0), surface.parameter(1)
    x, y = (surface.across - 0.5) * 2, (surface.up - 0.5) * 2
    radius = np.sqrt(x * x + y * y)
    inside = radius < rim
    # Lines through the hub at four headings; more than four lines would only be a grey at these sizes.
    spoke = (np.minimum(np.abs(x), np.abs(y)) < 0.09) & (spokes > 0.5)
    spoke |= (np.minimum(np.abs(x + y), np.abs(x - y)) < 0.12) & (spokes > 2.5)
    rim_colour = surface.accent * np.where(spoke | (radius > rim - 0.1) | (radius < 0.16), 1, 0.55)
    return mix(surface.colour, rim_colour.astype(np.float32), inside.astype(np.float32))
