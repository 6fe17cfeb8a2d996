"""From light to a picture: lens, exposure, white balance, tone, sensor noise."""

import numpy as np

from mtl_keras.data.street_scenes.draws import Draw


def photograph(light: np.ndarray, brightness: float, draw: Draw, noise_draw: Draw) -> np.ndarray:
    """Develops linear light.

    Args:
        light: (3, 2·height + 1, 2·width + 1) float32 linear light at every sample.
        brightness: the scene's illumination, which the exposure follows.
        draw: chooses the exposure, the balance, the tone and the blur.
        noise_draw: gives the sensor's noise.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    pixels = _halve(_halve(light, 1), 2)
    exposure = draw.uniform(0.85, 1.6) / brightness
    balance = np.array([draw.uniform(0.87, 1.13), 1.0, draw.uniform(0.87, 1.13)], np.float32)
    pixels *= (balance * np.float32(exposure))[:, None, None]
    lift, contrast = draw.uniform(0.0, 0.05), draw.uniform(-0.25, 0.45)
    saturation = np.float32(draw.uniform(0.55, 1.25))
    # The shoulder keeps highlights from clipping hard; the square root is the display's gamma.
    pixels = np.sqrt(pixels * (1 + pixels * np.float32(0.1)) / (1 + pixels * np.float32(0.32)))
    pixels = np.minimum(pixels, 1)
    pixels += pixels * (1 - pixels) * (pixels - np.float32(0.5)) * np.float32(contrast * 2)
    grey = (pixels[0] + pixels[1] + pixels[2]) * np.float32(1 / 3)
    pixels = grey + (pixels - grey) * saturation
    pixels = np.float32(lift) + pixels * np.float32(1 - lift)
    if draw.chance(0.25):
        pixels = _soften(pixels, draw.uniform(0.1, 0.5))
    pixels *= _vignette(pixels.shape[1:], draw.uniform(0.0, 0.3))
    strength = np.float32(draw.uniform(0.004, 0.04) * draw.uniform(0.3, 1.0))
    height, width = pixels.shape[1:]
    # The sum of two even distributions is near enough to a normal one, and exact everywhere.
    pixels += (noise_draw.field(3, height, width) + noise_draw.field(3, height, width) - 1) * (strength * 2)
    return np.clip(np.moveaxis(pixels, 0, -1) * 255 + np.float32(0.5), 0, 255).astype(np.uint8)


def _halve(light: np.ndarray, axis: int) -> np.ndarray:
    """Weights samples 1, 2, 1 about every pixel's centre along an axis."""
    cut = [slice(None)] * 3
    parts = []
    for part in (slice(1, None, 2), slice(0, -1, 2), slice(2, None, 2)):
        cut[axis] = part
        parts.append(light[tuple(cut)])
    return parts[0] * np.float32(0.5) + (parts[1] + parts[2]) * np.float32(0.25)


def _soften(pixels: np.ndarray, amount: float) -> np.ndarray:
    """Mixes in the mean of the four neighbours."""
    padded = np.pad(pixels, ((0, 0), (1, 1), (1, 1)), mode="edge")
    around = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    return pixels + (around * np.float32(0.25) - pixels) * np.float32(amount)


def _vignette(shape: tuple[int, int], strength: float) -> np.ndarray:
    rows = np.linspace(-1, 1, shape[0], dtype=np.float32)
    columns = np.linspace(-1, 1, shape[1], dtype=np.float32)
    return 1 - np.float32(strength / 2) * (np.square(rows)[:, None] + np.square(columns)[None, :])
