"""Which part of a face is there: discs, octagons, leaves, hedges and fences with gaps."""

import numpy as np

from mtl_keras.data.street_scenes import noise
from mtl_keras.data.street_scenes.mesh import Shape


def cut(shape: int, across: np.ndarray, up: np.ndarray, lengths: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """The samples that a silhouette keeps.

    Args:
        shape: one of `Shape`.
        across: place from left to right, 0 to 1.
        up: place from bottom to top, 0 to 1.
        lengths: (2,) metres that 0 to 1 stands for.
        parameters: those of the face's look.
    """
    return _SILHOUETTES[Shape(shape)](across, up, lengths, parameters)


def _disc(across, up, lengths, parameters):
    x, y = across - 0.5, up - 0.5
    return x * x + y * y < 0.25


def _octagon(across, up, lengths, parameters):
    return np.abs(across - 0.5) + np.abs(up - 0.5) < 0.7


def _leaves(across, up, lengths, parameters):
    """A disc frayed by noise in metres; parameters: where in the noise, how frayed."""
    x, y = across - 0.5, up - 0.5
    salt, fray = parameters[0], parameters[1]
    width, height = np.float32(lengths[0] * 56), np.float32(lengths[1] * 56)
    clumps = noise.look_up(noise.fractal_tile(), across * width + salt, up * height + salt * 7)
    return (x * x + y * y) * 4 < 1 - fray * clumps


def _hedge(across, up, lengths, parameters):
    """Full below, frayed along the top; parameters: where in the noise, frayed share of the height."""
    width, height = np.float32(lengths[0] * 56), np.float32(lengths[1] * 56)
    clumps = noise.look_up(noise.fractal_tile(), across * width + parameters[0], up * height)
    return up < 1 - parameters[1] * clumps


def _pickets(across, up, lengths, parameters):
    """Upright bars with two rails; parameters: pitch in metres, filled share, height of the points."""
    pitch, filled, points = parameters[0], parameters[1], parameters[2]
    place = across * np.float32(lengths[0] / pitch)
    place = np.abs(place - np.floor(place) - 0.5) * 2
    bars = (place < filled) & (up < 1 - points * place)
    return bars | (np.abs(up - 0.2) < 0.05) | (np.abs(up - 0.75) < 0.05)


def _rails(across, up, lengths, parameters):
    """Lying rails between posts; parameters: pitch of the posts in metres, number of rails, filled share."""
    pitch, count, filled = parameters[0], parameters[1], parameters[2]
    place = across * np.float32(lengths[0] / pitch)
    height = up * count
    posts = np.abs(place - np.floor(place) - 0.5) < np.float32(0.07) / pitch
    return posts | (height - np.floor(height) > 1 - filled)


_SILHOUETTES = {
    Shape.DISC: _disc,
    Shape.OCTAGON: _octagon,
    Shape.LEAVES: _leaves,
    Shape.HEDGE: _hedge,
    Shape.PICKETS: _pickets,
    Shape.RAILS: _rails,
}
