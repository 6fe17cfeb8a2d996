"""Random choices, colours and angles by arithmetic whose bits do not depend on the machine."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Option = TypeVar("Option")


class Draw:
    """One stream of random choices.

    Ranges are scaled here rather than by NumPy's `uniform`, whose compiled form may fuse a multiplication with an
    addition on some processors and not on others.

    Args:
        entropy: non-negative integers; equal ones give equal streams.
    """

    def __init__(self, *entropy: int):
        self._generator = np.random.default_rng(np.random.SeedSequence(entropy))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * float(self._generator.random())

    def chance(self, probability: float) -> bool:
        return self.uniform() < probability

    def integer(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both included."""
        return int(self._generator.integers(low, high + 1))

    def sign(self) -> float:
        return 1.0 if self.chance(0.5) else -1.0

    def pick(self, options: Sequence[Option], weights: Sequence[float] | None = None) -> Option:
        """One of the options, all equally likely unless weights, which sum to 1, are given."""
        if weights is None:
            return options[self.integer(0, len(options) - 1)]
        left = self.uniform()
        for option, weight in zip(options, weights, strict=True):
            left -= weight
            if left < 0.0:
                return option
        return options[-1]

    def field(self, *shape: int) -> np.ndarray:
        """Independent float32 numbers from 0 to 1."""
        return self._generator.random(shape, dtype=np.float32)


def cosine_sine(angle: float) -> tuple[float, float]:
    """Cosine and sine of an angle from −2π to 2π; a series, because math libraries differ in the last bit."""
    # The series converges fast enough for an eighth of the angle; three doublings bring it back.
    small = angle / 8.0
    square = small * small
    cosine = 1.0 - square / 2.0 * (1.0 - square / 12.0 * (1.0 - square / 30.0 * (1.0 - square / 56.0)))
    sine = small * (1.0 - square / 6.0 * (1.0 - square / 20.0 * (1.0 - square / 42.0 * (1.0 - square / 72.0))))
    for _ in range(3):
        cosine, sine = cosine * cosine - sine * sine, 2.0 * cosine * sine
    return cosine, sine


Colour = tuple[float, float, float]


def hue_colour(hue: float, saturation: float, value: float) -> Colour:
    """HSV, all from 0 to 1 (the hue wraps), to RGB from 0 to 1."""
    channels = []
    for offset in (0.0, 2.0 / 3.0, 1.0 / 3.0):
        distance = abs(((hue + offset) % 1.0) * 6.0 - 3.0) - 1.0
        channels.append(value * (1.0 - saturation * (1.0 - min(max(distance, 0.0), 1.0))))
    return channels[0], channels[1], channels[2]


def blend(first: Colour, second: Colour, weight: float) -> Colour:
    red, green, blue = (a + (b - a) * weight for a, b in zip(first, second, strict=True))
    return red, green, blue


def scaled(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(max(channel * factor, 0.0), 1.0) for channel in colour)
    return red, green, blue


def grey(draw: Draw, low: float, high: float, tint: float = 0.12) -> Colour:
    """A grey with a slight tint of any hue."""
    return hue_colour(draw.uniform(), draw.uniform(0.0, tint), draw.uniform(low, high))


def earth(draw: Draw) -> Colour:
    """Brick, sand, clay, wood, dry grass."""
    return hue_colour(draw.uniform(0.0, 0.16), draw.uniform(0.2, 0.65), draw.uniform(0.25, 0.8))


def anything(draw: Draw) -> Colour:
    """A colour that a car, a facade, a coat or a bin may share."""
    kind = draw.uniform()
    if kind < 0.42:
        return grey(draw, 0.08, 0.95)
    if kind < 0.68:
        return earth(draw)
    return hue_colour(draw.uniform(), draw.uniform(0.2, 0.9), draw.uniform(0.2, 0.85))


def paint(draw: Draw) -> Colour:
    """Vehicles: mostly white to black, then any saturated colour."""
    kind = draw.uniform()
    if kind < 0.55:
        return grey(draw, 0.08, 0.97)
    if kind < 0.65:
        return earth(draw)
    return hue_colour(draw.uniform(), draw.uniform(0.45, 0.92), draw.uniform(0.3, 0.9))


def plaster(draw: Draw) -> Colour:
    """Houses: earths and greys, then pale or deep washes of any hue."""
    kind = draw.uniform()
    if kind < 0.45:
        return earth(draw)
    if kind < 0.7:
        return grey(draw, 0.25, 0.95)
    if kind < 0.92:
        return hue_colour(draw.uniform(), draw.uniform(0.1, 0.4), draw.uniform(0.5, 0.92))
    return hue_colour(draw.uniform(), draw.uniform(0.4, 0.8), draw.uniform(0.3, 0.7))


def foliage(draw: Draw) -> Colour:
    """Leaves and grass: mostly green, sometimes dry, autumnal or nearly black."""
    kind = draw.uniform()
    if kind < 0.62:
        return hue_colour(draw.uniform(0.18, 0.38), draw.uniform(0.25, 0.75), draw.uniform(0.22, 0.6))
    if kind < 0.86:
        return hue_colour(draw.uniform(0.0, 0.17), draw.uniform(0.4, 0.85), draw.uniform(0.35, 0.75))
    return hue_colour(draw.uniform(0.1, 0.5), draw.uniform(0.1, 0.4), draw.uniform(0.12, 0.4))
