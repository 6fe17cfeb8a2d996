"""Prediction at an image's own size."""

import numpy as np


def padding_for(size: int, multiple: int) -> int:
    """How many pixels are missing to the next multiple."""
    return -size % multiple


def pad_to_multiple(images: np.ndarray, multiple: int, color) -> np.ndarray:
    """Pads images at the bottom and the right with one colour: (batch, height, width, 3) float32."""
    _, height, width, _ = images.shape
    color = np.asarray(color, "float32")
    border = ((0, 0), (0, padding_for(height, multiple)), (0, padding_for(width, multiple)), (0, 0))
    # Padding with zeros around the colour is padding with the colour.
    return np.pad(images.astype("float32") - color, border) + color
