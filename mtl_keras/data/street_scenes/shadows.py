"""Shadows on the ground under and beside things, and those of the houses along the street."""

import math

import numpy as np

from mtl_keras.data.street_scenes.camera import Camera
from mtl_keras.data.street_scenes.mesh import Shadow
from mtl_keras.data.street_scenes.weather import Weather

_LEAST_HEIGHT_SHARE = 0.14
# Farther off a shadow is thinner than a pixel.
_REACH = 90.0


def ground_light(
    shadows: list[Shadow], weather: Weather, camera: Camera, position: np.ndarray, ground: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How much skylight and sunlight reach the ground past the things that stand on it.

    Args:
        shadows: footprints of what stands there.
        weather: gives the sun.
        camera: finds the samples that a footprint covers.
        position: (3, rows, columns) world metres of every sample.
        ground: (rows, columns), True where a sample shows the ground.

    Returns:
        Two (rows, columns) float32 factors from 0 to 1.
    """
    sky_share = np.ones(ground.shape, np.float32)
    sun_share = np.ones(ground.shape, np.float32)
    sun_x, sun_y, sun_z = (float(part) for part in weather.sun)
    rise = math.sqrt(sun_x * sun_x + sun_z * sun_z)
    for shadow in shadows:
        if shadow.z > _REACH:
            continue
        contact = shadow._replace(
            half_width=shadow.half_width * 1.25 + 0.1, half_length=shadow.half_length * 1.12 + 0.1
        )
        _darken(sky_share, contact, 0.62, camera, position, ground)
        if weather.sunlight[0] > 0.05:
            reach = min(shadow.height * rise / max(sun_y, _LEAST_HEIGHT_SHARE), 14.0) / 2
            _darken(sun_share, _cast(shadow, -sun_x / rise, -sun_z / rise, reach), 0.95, camera, position, ground)
    return sky_share, sun_share


def _cast(shadow: Shadow, x: float, z: float, reach: float) -> Shadow:
    """The footprint drawn out away from the sun by twice `reach`."""
    heading_x, heading_z = shadow.heading
    along = abs(heading_x * x + heading_z * z)
    across = abs(heading_x * z - heading_z * x)
    return Shadow(
        shadow.x + x * reach,
        shadow.z + z * reach,
        shadow.half_width * along + shadow.half_length * across,
        reach + shadow.half_length * along + shadow.half_width * across,
        (x, z),
        shadow.base,
        shadow.height,
    )


def _darken(share: np.ndarray, shadow: Shadow, strength: float, camera: Camera, position, ground) -> None:
    """Takes a soft ellipse off a share of light."""
    box = _box(shadow, camera)
    if box is None:
        return
    if not ground[box].any():
        return
    x, z = position[0][box] - np.float32(shadow.x), position[2][box] - np.float32(shadow.z)
    heading_x, heading_z = shadow.heading
    along = x * np.float32(heading_x / shadow.half_length) + z * np.float32(heading_z / shadow.half_length)
    across = x * np.float32(heading_z / shadow.half_width) - z * np.float32(heading_x / shadow.half_width)
    # A fourth power makes the ellipse nearly a rounded rectangle.
    along, across = along * along, across * across
    depth = np.clip((1 - along * along - across * across) * np.float32(1.6), 0, 1) * np.float32(strength)
    share[box] *= 1 - depth * ground[box]


def _box(shadow: Shadow, camera: Camera) -> tuple[slice, slice] | None:
    """The rows and columns of samples that hold a footprint, if any."""
    (hx, hz), w, length = shadow.heading, shadow.half_width, shadow.half_length
    corners = np.array(
        [
            [shadow.x + i * hx * length + j * hz * w, shadow.base, shadow.z + i * hz * length - j * hx * w]
            for i in (-1, 1)
            for j in (-1, 1)
        ]
    )
    corners = camera.to_camera(corners)
    if corners[:, 2].max() < 0.5:
        return None
    depth = np.maximum(corners[:, 2], 0.5)
    columns, rows = corners[:, 0] / depth, corners[:, 1] / depth
    if corners[:, 2].min() < 0.5:
        rows = np.append(rows, 9.0)
    left, right = np.searchsorted(camera.columns, (columns.min(), columns.max()))
    top, bottom = np.searchsorted(camera.rows, (rows.min(), rows.max()))
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


def skyline_light(
    skyline: tuple[np.ndarray, np.ndarray], weather: Weather, position: np.ndarray, sideways: np.ndarray
) -> np.ndarray:
    """The share of sunlight (…) that passes over the houses on the sun's side of the street.

    Args:
        skyline: for the left and the right side: the houses' heights in steps of a metre from 20 m behind the camera,
            with the sideways place of their fronts as the last entry.
        weather: gives the sun.
        position: (3, …) world metres.
        sideways: (…) sideways place in the street.
    """
    sun_x, sun_y, sun_z = (float(part) for part in weather.sun)
    if weather.sunlight[0] < 0.05 or abs(sun_x) < 0.08:
        return np.ones(sideways.shape, np.float32)
    heights = skyline[0] if sun_x < 0 else skyline[1]
    front, heights = float(heights[-1]), heights[:-1]
    steps = (np.float32(front) - sideways) * np.float32(1 / sun_x)
    inside = steps > 0.15
    steps = np.maximum(steps, 0)
    place = np.clip(position[2] + steps * np.float32(sun_z) + 20, 0, heights.size - 1).astype(np.int32)
    needed = position[1] + steps * np.float32(sun_y)
    lit = np.clip((needed - heights[place]) * np.float32(1.5), 0, 1)
    return np.where(inside, lit, 1).astype(np.float32)
