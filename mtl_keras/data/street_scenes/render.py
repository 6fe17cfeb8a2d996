"""Draws a street scene: its picture, its classes and its depth."""

import dataclasses
import functools

import numpy as np

from mtl_keras.data.street_scenes import ground, panels, textures
from mtl_keras.data.street_scenes.camera import SAMPLES_PER_PIXEL, Camera
from mtl_keras.data.street_scenes.draws import Draw
from mtl_keras.data.street_scenes.layout import Plan, draw_plan
from mtl_keras.data.street_scenes.mesh import IGNORE, ROAD, SIDEWALK, SKY, TERRAIN, Faces, Material
from mtl_keras.data.street_scenes.photograph import photograph
from mtl_keras.data.street_scenes.raster import NOTHING, Planes, rasterise
from mtl_keras.data.street_scenes.shadows import ground_light, skyline_light
from mtl_keras.data.street_scenes.surface import Surface
from mtl_keras.data.street_scenes.weather import sky, through_haze

DEPTH_RANGE = (4.0, 300.0)


@dataclasses.dataclass(frozen=True)
class Scene:
    """A rendered street with its labels.

    Args:
        image: (height, width, 3) uint8 RGB.
        semseg: (height, width) uint8 Cityscapes train ids 0–18, 255 = ignore.
        depth: (height, width) float32 metres along the optical axis, 0 = invalid: the sky, the own bonnet and
            whatever is nearer than 4 m or farther than 300 m.
    """

    image: np.ndarray
    semseg: np.ndarray
    depth: np.ndarray


def render_scene(seed: int, height: int, width: int) -> Scene:
    """Renders the street that belongs to a seed.

    The street depends on the seed alone; the size changes only how finely it is sampled, and the sensor's noise. No
    step uses a function that math libraries round differently, so the bytes are the same on every machine.

    Args:
        seed: any non-negative integer.
        height: rows of the picture, at least 1.
        width: columns of the picture, at least 1; scenes are laid out for pictures twice as wide as high.

    Returns:
        The scene's picture, classes and depth.
    """
    plan = draw_plan(Draw(seed, 0), height, width)
    faces = plan.mesh.faces()
    inverse_depth, index, planes = rasterise(faces, plan.camera)
    light = _shade(plan, faces, planes, inverse_depth, index)
    weather = plan.weather
    brightness = weather.skylight[1] + 0.55 * weather.sunlight[1]
    image = photograph(light, brightness, Draw(seed, 1), Draw(seed, 2, height, width))
    centres = slice(1, None, SAMPLES_PER_PIXEL)
    semseg, depth = _labels(faces, index[centres, centres], inverse_depth[centres, centres])
    bonnet = plan.bonnet_pixels()
    semseg[bonnet], depth[bonnet] = IGNORE, 0
    return Scene(image, semseg, depth)


def _labels(faces: Faces, index: np.ndarray, inverse_depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Classes and depth of the samples at the pixels' centres."""
    seen = index != NOTHING
    semseg = np.where(seen, faces.labels[index], np.uint8(SKY))
    depth = 1 / np.where(seen, inverse_depth, np.float32(1))
    near, far = DEPTH_RANGE
    return semseg, np.where(seen & (depth >= near) & (depth <= far), depth, np.float32(0))


def _shade(plan: Plan, faces: Faces, planes: Planes, inverse_depth: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Linear light (3, rows, columns) of every sample."""
    camera, weather = plan.camera, plan.weather
    ray = _world_rays(camera)
    seen = index != NOTHING
    light = np.empty((3, index.size), np.float32)
    above = np.flatnonzero(~seen)
    light[:, above] = np.square(sky(weather, ray.reshape(3, -1)[:, above], plan.cloud_offset))
    depth = 1 / np.where(seen, inverse_depth, np.float32(1e-3))
    position = ray * depth
    position += camera.position.astype(np.float32)[:, None, None]
    is_ground = seen & np.isin(faces.labels, (ROAD, SIDEWALK, TERRAIN))[index]
    sky_share, sun_share = ground_light(plan.mesh.shadows, weather, camera, position, is_ground)
    samples = np.flatnonzero(seen)
    positions = position.reshape(3, -1)[:, samples]
    sideways = positions[0] - plan.street.bend(positions[2])
    sun = sun_share.ravel()[samples] * skyline_light(plan.skyline, weather, positions, sideways)
    place = _Places(planes, camera, samples, index.ravel()[samples], depth.ravel()[samples])
    colour, glow = _paint(plan, faces, place, positions)
    direct, diffuse = _facing(faces, planes, place, camera, weather.sun)
    direct *= sun
    diffuse *= sky_share.ravel()[samples]
    sunlight, skylight = (np.array(part, np.float32)[:, None] for part in (weather.sunlight, weather.skylight))
    albedo = np.square(np.maximum(colour, 0))
    lit = albedo * (sunlight * direct + skylight * diffuse)
    lit += (albedo * np.float32(1.15) - lit) * glow
    light[:, samples] = through_haze(weather, lit, place.depth)
    light = light.reshape(3, *index.shape)
    plan.paint_bonnet(light)
    return light


def _world_rays(camera: Camera) -> np.ndarray:
    """(3, rows, columns) float32 world directions whose part along the optical axis is 1."""
    x, y = camera.columns[None, :], camera.rows[:, None]
    right, down, forward = camera.axes
    return np.stack([x * right[k] + (y * down[k] + forward[k]) for k in range(3)]).astype(np.float32)


class _Places:
    """Where on their faces the samples lie."""

    def __init__(self, planes: Planes, camera: Camera, samples: np.ndarray, face: np.ndarray, depth: np.ndarray):
        columns, rows = camera.columns.astype(np.float32), camera.rows.astype(np.float32)
        row = samples // columns.size
        x, y = columns[samples - row * columns.size], rows[row]
        self.face, self.depth = face, depth
        self.across, self.up = (self._coordinate(form, x, y) for form in (planes.across, planes.up))
        self.lengths = planes.lengths.astype(np.float32)

    def _coordinate(self, form: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        a, b, c, offset = (np.take(part, self.face) for part in form.astype(np.float32).T.copy())
        return (a * x + b * y + c) * self.depth - offset


def _paint(plan: Plan, faces: Faces, place: _Places, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Display colours (3, samples) and how far each sample shines by itself."""
    painters = _PAINTERS | {Material.ASPHALT: functools.partial(ground.asphalt, markings=plan.street.markings)}
    material = np.take(faces.materials, place.face)
    colour = np.empty((3, material.size), np.float32)
    glow = np.zeros(material.size, np.float32)
    spacing = np.float32(1 / (SAMPLES_PER_PIXEL * plan.camera.focal))
    for kind in np.flatnonzero(np.bincount(material, minlength=len(Material))):
        chosen = np.flatnonzero(material == kind)
        face = place.face[chosen]
        surface = Surface(
            faces=faces,
            face=face,
            across=place.across[chosen],
            up=place.up[chosen],
            width=np.take(place.lengths[0], face),
            height=np.take(place.lengths[1], face),
            position=positions[:, chosen],
            spacing=place.depth[chosen] * spacing,
        )
        colour[:, chosen] = painters[kind](surface)
        if surface.glow is not None:
            glow[chosen] = surface.glow
    return colour, glow


def _facing(faces: Faces, planes: Planes, place: _Places, camera: Camera, sun: np.ndarray):
    """Shares of sunlight and skylight that the samples' surfaces receive by the way they face."""
    towards = camera.turn(np.stack([sun, np.array([0.0, 1.0, 0.0])]))
    normals = planes.normals
    upright, across = normals, planes.across[:, :3] * planes.lengths[0][:, None]
    up = planes.up[:, :3] * planes.lengths[1][:, None]
    shares = []
    for direction in towards:
        parts = [vectors[:, 0] * direction[0] + vectors[:, 1] * direction[1] + vectors[:, 2] * direction[2]
                 for vectors in (upright, across, up)]  # fmt: skip
        shares.append([part.astype(np.float32) for part in parts])
    bulge_x, bulge_y = faces.bulges
    x = np.take(bulge_x, place.face) * (place.across * 2 - 1)
    y = np.take(bulge_y, place.face) * (place.up * 2 - 1)
    flat = np.sqrt(np.maximum(1 - x * x - y * y, np.float32(0.02)))
    sunward, skyward = (
        np.take(part[0], place.face) * flat + np.take(part[1], place.face) * x + np.take(part[2], place.face) * y
        for part in shares
    )
    return np.maximum(sunward, 0), np.float32(0.66) + np.float32(0.34) * skyward


_PAINTERS = {
    Material.PLAIN: textures.plain,
    Material.PAVING: ground.paving,
    Material.GRASS: ground.grass,
    Material.FACADE: textures.facade,
    Material.ROOF: textures.roof,
    Material.MASONRY: textures.masonry,
    Material.PLANKS: textures.planks,
    Material.LEAVES: textures.leaves,
    Material.CAR_SIDE: panels.car_side,
    Material.CAR_END: panels.car_end,
    Material.GLASS: panels.glass,
    Material.COACH_SIDE: panels.coach_side,
    Material.COACH_END: panels.coach_end,
    Material.CARGO: panels.cargo,
    Material.WHEEL: panels.wheel,
    Material.SIGN: textures.sign,
    Material.SIGNAL: textures.signal,
    Material.CLOTH: textures.cloth,
}
