"""Tileable noise, made once in a process and looked up by every texture."""

import functools

import numpy as np

from mtl_keras.data.street_scenes.draws import Draw

SIZE = 256


@functools.cache
def fractal_tile() -> np.ndarray:
    """(256, 256) float32 smooth fractal noise, about uniform from 0 to 1, periodic in both directions."""
    draw = Draw(19, 1)
    total = np.zeros((SIZE, SIZE), np.float32)
    weight = 1.0
    for cells in (4, 8, 16, 32, 64, 128):
        total += np.float32(weight) * (_smooth_grid(draw.field(cells, cells)) - np.float32(0.5))
        weight *= 0.62
    # Ranks make the histogram flat, so that a threshold is a fraction of the area.
    ranks = np.empty(total.size, np.float32)
    ranks[np.argsort(total, axis=None, kind="stable")] = np.arange(total.size, dtype=np.float32)
    return (ranks / np.float32(total.size)).reshape(total.shape)


@functools.cache
def grain_tile() -> np.ndarray:
    """(256, 256) float32 independent noise from 0 to 1."""
    return Draw(19, 2).field(SIZE, SIZE)


def look_up(tile: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The nearest cell of a tile at coordinates counted in cells."""
    columns = np.floor(u).astype(np.int32) & (SIZE - 1)
    rows = np.floor(v).astype(np.int32) & (SIZE - 1)
    return tile.ravel()[rows * SIZE + columns]


def look_up_smooth(tile: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The tile interpolated linearly between cells."""
    left, top = np.floor(u), np.floor(v)
    across, down = u - left, v - top
    upper = look_up(tile, left, top)
    upper += (look_up(tile, left + 1, top) - upper) * across
    lower = look_up(tile, left, top + 1)
    lower += (look_up(tile, left + 1, top + 1) - lower) * across
    return upper + (lower - upper) * down


def cell_hash(column: np.ndarray, row: np.ndarray, salt: np.ndarray | float = 0.0) -> np.ndarray:
    """One number from 0 to 1 for every cell of a grid: float32, equal cells and salts give equal numbers."""
    mixed = np.asarray(column).astype(np.int64) * 374761393 + np.asarray(row).astype(np.int64) * 668265263
    mixed = (mixed + np.asarray(salt).astype(np.int64) * 2147483647).astype(np.uint32)
    mixed = (mixed ^ (mixed >> np.uint32(13))) * np.uint32(1274126177)
    mixed ^= mixed >> np.uint32(16)
    return (mixed >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def _smooth_grid(grid: np.ndarray) -> np.ndarray:
    """A periodic grid interpolated to the tile's size with an eased weight."""
    cells = grid.shape[0]
    position = np.arange(SIZE, dtype=np.float32) * np.float32(cells / SIZE)
    first = np.floor(position).astype(np.int64)
    weight = position - first
    weight = weight * weight * (3 - 2 * weight)
    second = (first + 1) % cells
    rows = grid[first] * (1 - weight)[:, None] + grid[second] * weight[:, None]
    return rows[:, first] * (1 - weight) + rows[:, second] * weight
