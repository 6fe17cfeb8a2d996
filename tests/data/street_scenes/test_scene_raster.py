"""The z-buffer against a ray caster in float64, and silhouettes against areas in closed form."""

import numpy as np
import pytest

from mtl_keras.data.street_scenes import silhouettes
from mtl_keras.data.street_scenes.camera import draw_camera
from mtl_keras.data.street_scenes.draws import Draw
from mtl_keras.data.street_scenes.mesh import Frame, Look, Mesh, Shape
from mtl_keras.data.street_scenes.raster import NEAR, rasterise


def cast_rays(corners: np.ndarray, origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Depth (faces, rays) at which rays of unit depth meet two-sided quadrilaterals, infinite where they miss."""
    hits = np.full((len(corners), len(rays)), np.inf)
    for number, quad in enumerate(corners):
        for triangle in (quad[[0, 1, 2]], quad[[0, 2, 3]]):
            # Möller and Trumbore's equations, solved as a 3×3 system a ray.
            edges = np.stack([triangle[1] - triangle[0], triangle[2] - triangle[0]])
            if np.linalg.norm(np.cross(*edges)) < 1e-12:
                continue
            systems = np.stack([np.stack([edges[0], edges[1], -ray], axis=1) for ray in rays])
            start = np.broadcast_to(origin - triangle[0], (len(rays), 3))
            first, second, depth = np.linalg.solve(systems, start[..., None])[..., 0].T
            inside = (first >= 0) & (second >= 0) & (first + second <= 1) & (depth > NEAR)
            hits[number] = np.where(inside, np.minimum(hits[number], depth), hits[number])
    return hits


@pytest.mark.parametrize("seed", range(4))
def test_faces_and_depth_agree_with_a_ray_caster(seed):
    camera = draw_camera(Draw(seed), 12, 24, 0.3)
    generator = np.random.default_rng(seed)
    mesh, look = Mesh(camera.position), Look(2, (0.5, 0.5, 0.5), two_sided=True)
    mesh.quad((-50, 0, -5), (50, 0, -5), (50, 0, 300), (-50, 0, 300), look)
    for _ in range(30):
        # Flat parallelograms of any pose; some reach behind the camera, some are edge on.
        corner, first, second = generator.normal([0, 2, 12], [6, 2, 9]), *generator.normal(0, 3, (2, 3))
        mesh.quad(corner, corner + first, corner + first + second, corner + second, look)
    faces = mesh.faces()
    inverse_depth, index, _ = rasterise(faces, camera)
    right, down, forward = camera.axes
    rays = (camera.columns[None, :, None] * right + camera.rows[:, None, None] * down + forward).reshape(-1, 3)
    hits = cast_rays(faces.corners, camera.position, rays).reshape(-1, *index.shape)
    nearest = hits.min(axis=0)
    # Rays that graze an edge may fall either way in the last bit.
    agree = np.where(np.isinf(nearest), index == -1, index == hits.argmin(axis=0))
    assert agree.mean() > 0.998
    seen = agree & (index >= 0)
    assert seen.sum() > 300
    np.testing.assert_allclose(1 / inverse_depth[seen], nearest[seen], rtol=2e-5)


def test_only_the_outside_of_a_block_is_seen():
    camera = draw_camera(Draw(3), 16, 32, 0.0)
    mesh, edge = Mesh(camera.position), (-2.0, 2.0, 8.0, 12.0)
    looks = {name: Look(label, (0.5, 0.5, 0.5)) for label, name in enumerate(("back", "front", "left", "right", "top"))}
    mesh.block(Frame((0.0, 0.0, 0.0)), edge, edge, (0.0, 1.0), looks)
    faces = mesh.faces()
    _, index, _ = rasterise(faces, camera)
    seen = {int(faces.labels[face]) for face in np.unique(index) if face >= 0}
    # From ahead and above its roof: the side towards the camera and the top, never the far side or an inner one.
    assert seen == {0, 4}


@pytest.mark.parametrize(
    ("shape", "area"), [(Shape.DISC, np.pi / 4), (Shape.OCTAGON, 1 - 4 * 0.3**2 / 2)], ids=["disc", "octagon"]
)
def test_silhouettes_have_the_area_of_their_shape(shape, area):
    place = (np.arange(400, dtype=np.float32) + 0.5) / 400
    kept = silhouettes.cut(shape, place[None, :], place[:, None], np.ones(2), np.zeros(6, np.float32))
    assert kept.mean() == pytest.approx(area, abs=2e-3)


def test_pickets_fill_their_share_between_the_rails():
    across = (np.arange(4000, dtype=np.float32) + 0.5) / 4000
    parameters = np.array([0.25, 0.6, 0, 0, 0, 0], np.float32)
    kept = silhouettes.cut(Shape.PICKETS, across, np.full_like(across, 0.5), np.array([10.0, 1.0]), parameters)
    assert kept.mean() == pytest.approx(0.6, abs=0.01)
    assert silhouettes.cut(Shape.PICKETS, across, np.full_like(across, 0.2), np.array([10.0, 1.0]), parameters).all()
