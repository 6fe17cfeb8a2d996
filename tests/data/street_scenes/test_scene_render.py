"""What a user of the scenes relies on: equal bytes, exact labels, metric depth, all classes, and colours that lie."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from mtl_keras.data.street_scenes import render_scene
from mtl_keras.data.street_scenes.draws import Draw
from mtl_keras.data.street_scenes.layout import Plan, draw_plan
from mtl_keras.data.street_scenes.mesh import IGNORE, ROAD, SKY
from mtl_keras.data.street_scenes.raster import rasterise

pytestmark = pytest.mark.filterwarnings("error")


def digest(scene) -> str:
    return hashlib.sha256(scene.image.tobytes() + scene.semseg.tobytes() + scene.depth.tobytes()).hexdigest()


@pytest.fixture(scope="module")
def scenes():
    return [render_scene(seed, 64, 128) for seed in range(80)]


def test_a_process_on_a_plainer_processor_renders_the_same_bytes(scenes):
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    plainer = os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(found)}
    code = (
        "import hashlib; from mtl_keras.data.street_scenes import render_scene; s = render_scene(11, 64, 128);"
        "print(hashlib.sha256(s.image.tobytes() + s.semseg.tobytes() + s.depth.tobytes()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=plainer)
    assert other.stdout.strip() == digest(scenes[11])
    assert digest(scenes[11]) != digest(scenes[12])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (17, 31), (60, 40)])
def test_any_size_is_rendered(height, width):
    scene = render_scene(3, height, width)
    assert (scene.image.shape, scene.image.dtype) == ((height, width, 3), np.uint8)
    assert (scene.semseg.shape, scene.semseg.dtype) == ((height, width), np.uint8)
    assert (scene.depth.shape, scene.depth.dtype) == ((height, width), np.float32)


@pytest.mark.parametrize("seed", [2, 9, 21])
def test_labels_are_samples_at_the_pixels_centres(seed):
    small, large = render_scene(seed, 48, 96), render_scene(seed, 144, 288)
    # With three pixels for one, every middle one shares its centre with the small picture's pixel.
    semseg, depth = large.semseg[1::3, 1::3], large.depth[1::3, 1::3]
    assert (semseg == small.semseg).mean() > 0.998
    same = (semseg == small.semseg) & (depth > 0) & (small.depth > 0)
    assert np.mean(np.abs(depth[same] / small.depth[same] - 1) < 1e-4) > 0.998


def flat_streets(count: int) -> list[tuple[int, Plan]]:
    """Seeds and plans of the first scenes, but of those whose street climbs."""
    plans = [(seed, draw_plan(Draw(seed, 0), 64, 128)) for seed in range(count)]
    flat = [(seed, plan) for seed, plan in plans if not plan.street.climb]
    assert len(flat) > count / 3
    return flat


def test_the_road_lies_where_its_plane_is(scenes):
    for seed, plan in flat_streets(30):
        camera, scene = plan.camera, scenes[seed]
        x = (np.arange(128) + 0.5 - 64) / camera.focal
        y = (np.arange(64) + 0.5 - 32)[:, None] / camera.focal
        falling = -(x * camera.axes[0, 1] + y * camera.axes[1, 1] + camera.axes[2, 1])
        road = (scene.semseg == ROAD) & (scene.depth > 0)
        expected = camera.position[1] / np.where(road, falling, 1)
        np.testing.assert_allclose(scene.depth[road], expected[road], rtol=1e-4)


def test_the_ground_has_no_holes():
    for seed, plan in flat_streets(60):
        faces = plan.mesh.faces()
        _, index, _ = rasterise(faces, plan.camera)
        right, down, forward = plan.camera.axes[:, 1]
        falling = plan.camera.columns * right + plan.camera.rows[:, None] * down + forward < -0.01
        assert (index[falling] >= 0).all(), seed


def test_depth_is_metric_or_zero(scenes):
    for scene in scenes:
        valid = scene.depth > 0
        assert not valid[scene.semseg == SKY].any()
        assert scene.depth[valid].min() >= 4 and scene.depth[valid].max() <= 300
        assert valid.mean() > 0.2


def test_edges_of_the_labels_are_edges_of_the_picture(scenes):
    contrast = np.zeros(7)
    for scene in scenes:
        borders = scene.semseg[:, 4:-4] != scene.semseg[:, 3:-5]
        steps = np.abs(np.diff(scene.image.astype(float), axis=1)).sum(axis=2)
        for shift in range(-3, 4):
            contrast[shift + 3] += steps[:, 3 + shift : 3 + shift + borders.shape[1]][borders].mean()
    # The step from one pixel to the next is greatest just where the label changes, and falls off alike on both sides.
    assert contrast.argmax() == 3
    assert contrast[3] > 2 * contrast[[0, 1, 5, 6]].max()
    assert contrast[2] == pytest.approx(contrast[4], rel=0.1)


def test_every_class_occurs_in_a_few_dozen_scenes(scenes):
    for start in (0, 40):
        seen = np.unique(np.concatenate([scene.semseg.ravel() for scene in scenes[start : start + 40]]))
        assert set(seen) == set(range(19)) | {IGNORE}


def test_rare_classes_are_not_too_rare(scenes):
    counts = np.stack([np.bincount(scene.semseg.ravel(), minlength=256)[:19] for scene in scenes])
    assert ((counts > 0).mean(axis=0) > 0.15).all()
    assert (counts.sum(axis=0) / (len(scenes) * 64 * 128) > 0.003).all()


def test_colour_alone_does_not_give_the_classes_away(scenes):
    colours, labels = _pixels(scenes[:60])
    confusion = np.zeros((19, 19))
    weights = _softmax_regression(colours[::40], labels[::40])
    colours, labels = _pixels(scenes[60:])
    np.add.at(confusion, (labels, (colours @ weights).argmax(axis=1)), 1)
    hits = np.diag(confusion)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
    assert 100 * np.mean(hits / np.maximum(union, 1)) < 35


def _pixels(scenes) -> tuple[np.ndarray, np.ndarray]:
    """Colours about zero with a constant appended, (pixels, 4), and labels of all labelled pixels."""
    labels = np.concatenate([scene.semseg.ravel() for scene in scenes]).astype(np.int64)
    colours = np.concatenate([scene.image.reshape(-1, 3) for scene in scenes]) / 64.0 - 2.0
    return np.append(colours, np.ones((len(colours), 1)), axis=1)[labels != IGNORE], labels[labels != IGNORE]


def _softmax_regression(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Weights (features, 19) by gradient descent with momentum, to convergence at these sizes."""
    weights, velocity, targets = np.zeros((features.shape[1], 19)), 0.0, np.eye(19)[labels]
    for _ in range(250):
        # einsum, because BLAS threads that wait for each other take longer than these small products.
        logits = np.einsum("pf,fc->pc", features, weights)
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        velocity = 0.9 * velocity - 0.5 * np.einsum("pf,pc->fc", features, chances - targets) / len(labels)
        weights = weights + velocity
    return weights
