"""Measures of a split against NumPy by definition, cityscapesScripts, and the metrics that training logs."""

import argparse
import dataclasses
import json

import numpy as np
import pytest

from mtl_keras.data.spec import CITYSCAPES_COLORS
from mtl_keras.evaluation import MEASURES, DepthErrors, Evaluation, SemsegErrors, evaluate
from mtl_keras.inference import Prediction
from tests import harness
from trainers import evaluation_report


def depths(images: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """True depth with invalid pixels, and a prediction that is up to twice or half as far."""
    rng = np.random.default_rng(seed)
    true = np.exp(rng.uniform(np.log(4), np.log(300), (images, 30, 40)))
    predicted = np.clip(true * np.exp(rng.normal(0.1, 0.4, true.shape)), 4, 300)
    true[rng.random(true.shape) < 0.2] = 0
    return list(zip(true.astype("float32"), predicted.astype("float32"), strict=True))


def published(true: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Eigen et al.'s and KITTI's definitions, written down plainly."""
    p, t = predicted[true > 0].astype("float64"), true[true > 0].astype("float64")
    difference = np.log(p) - np.log(t)
    ratio = np.maximum(p / t, t / p)
    return {
        "silog": 100 * np.std(difference),
        "log_rmse": np.sqrt(np.mean((np.log(p) - np.log(t)) ** 2)),
        "log_mae": np.mean(np.abs(difference)),
        "log10_mae": np.mean(np.abs(np.log10(p) - np.log10(t))),
        "rmse": np.sqrt(np.mean((p - t) ** 2)),
        "mae": np.mean(np.abs(p - t)),
        "rel": np.mean(np.abs(p - t) / t),
        "sq_rel": np.mean((p - t) ** 2 / t),
        "rel_squared": np.mean(((p - t) / t) ** 2),
        "inv_rmse": 1000 * np.sqrt(np.mean((1 / p - 1 / t) ** 2)),
        "inv_mae": 1000 * np.mean(np.abs(1 / p - 1 / t)),
        "delta1": 100 * np.mean(ratio < 1.25),
        "delta2": 100 * np.mean(ratio < 1.25**2),
        "delta3": 100 * np.mean(ratio < 1.25**3),
    }


def test_depth_measures_are_the_published_ones():
    errors, pairs = DepthErrors(edges=(10, 40)), depths(3)
    for true, predicted in pairs:
        errors.add(true, predicted)
    of_images = [published(true, predicted) for true, predicted in pairs]
    for name in MEASURES:
        assert errors.mean_of_images()[name] == pytest.approx(np.mean([of[name] for of in of_images]), rel=1e-10)
    true, predicted = (np.concatenate(part) for part in zip(*pairs, strict=True))
    assert errors.pooled() == pytest.approx(published(true, predicted), rel=1e-10)
    for name, low, high in (("0–10 m", 0, 10), ("10–40 m", 10, 40), ("over 40 m", 40, np.inf)):
        inside = (true > 0) & (true >= low) & (true < high)
        expected = {"pixels": inside.sum(), **published(np.where(inside, true, 0), predicted)}
        assert errors.bands()[name] == pytest.approx(expected, rel=1e-9)


def test_silog_does_not_lose_its_digits_far_from_the_truth():
    """A prediction 50 times too far with a spread of 1e-3 in the logarithm."""
    rng = np.random.default_rng(0)
    true = rng.uniform(4, 6, (100, 100))
    predicted = 50 * true * np.exp(rng.normal(0, 1e-3, true.shape))
    errors = DepthErrors()
    errors.add(true, predicted)
    assert errors.pooled()["silog"] == pytest.approx(100 * np.std(np.log(predicted) - np.log(true)), rel=1e-6)


def test_images_without_depth_do_not_count():
    errors = DepthErrors()
    assert np.isnan(errors.mean_of_images()["rmse"]) and np.isnan(errors.pooled()["silog"]) and errors.bands() == {}
    for true, predicted in depths(1):
        errors.add(true, predicted)
        errors.add(np.zeros_like(true), predicted)
    assert errors.images == 1
    assert errors.mean_of_images() == pytest.approx(errors.pooled())


def test_iou_agrees_with_cityscapes_scripts():
    """Over train ids, with classes that are absent, which cityscapesScripts skips."""
    scripts = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    from cityscapesscripts.helpers.labels import trainId2label

    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 2, 10, 11, 13, 255], (4, 60, 80))
    ids = np.where((rng.random(labels.shape) < 0.7) & (labels != 255), labels, rng.integers(0, 12, labels.shape))
    errors = SemsegErrors(19)
    errors.add(labels, ids)

    order = [trainId2label[index].id for index in range(19)]
    matrix = np.zeros((34, 34), np.ulonglong)
    to_id = {**dict(enumerate(order)), 255: 0}
    for label, predicted in zip(labels.ravel(), ids.ravel(), strict=True):
        matrix[to_id[label], to_id[predicted]] += 1
    arguments = argparse.Namespace(evalLabels=list(range(34)))
    expected = [scripts.getIouScoreForLabel(index, matrix, arguments) for index in order]
    np.testing.assert_allclose(errors.iou() / 100, expected, rtol=1e-12)
    scores = {trainId2label[index].name: score for index, score in enumerate(expected)}
    results = errors.results(list(CITYSCAPES_COLORS))
    assert np.isnan(expected).any()
    assert results["miou_present"] == pytest.approx(100 * scripts.getScoreAverage(scores, arguments), rel=1e-12)
    assert results["miou"] == pytest.approx(100 * np.nansum(expected) / 19, rel=1e-12)


def test_counts_and_calibration_by_hand():
    errors = SemsegErrors(2)
    labels, ids = np.array([[0, 0, 1, 255]]), np.array([[0, 1, 1, 0]])
    errors.add(labels, ids, np.array([[0.9, 0.6, 0.7, 1.0]]))
    results = errors.results(["a", "b"])
    np.testing.assert_array_equal(errors.confusion, [[1, 1], [0, 1]])
    assert results["iou"] == pytest.approx({"a": 50, "b": 50})
    assert results["pixel_accuracy"] == pytest.approx(200 / 3)
    # Each pixel is alone in its bin: |0.9 − 1|, |0.6 − 0| and |0.7 − 1|, averaged.
    assert results["calibration_error"] == pytest.approx(100 * (0.1 + 0.6 + 0.3) / 3)


def test_a_sure_prediction_falls_into_the_last_bin():
    errors = SemsegErrors(2)
    errors.add(np.array([[1]]), np.array([[1]]), np.array([[1.0]]))
    assert errors.calibration_error() == 0 and errors.bin_counts[-1] == 1


def test_a_model_that_has_diverged_is_reported_and_not_a_number(tmp_path):
    evaluation, labels = Evaluation(harness.spec(3)), harness.labels(1, 32, 32, 3)
    nothing = np.full((32, 32), np.nan, "float32")
    evaluation.add(labels, [Prediction(np.zeros((32, 32), np.uint8), nothing, nothing)])
    evaluation_report.write(tmp_path, evaluation, {"model": "a", "dataset": "b", "split": "val"})
    results = json.loads((tmp_path / "metrics.json").read_text())
    assert results["silog"] is None and results["grader"] == 0
    # It was sure of nothing, and right where the class is 0.
    assert results["semseg"]["calibration_error"] == pytest.approx(results["semseg"]["pixel_accuracy"])
    assert "| silog | 100·sqrt(mean(d²) − mean(d)²) | – | – |" in (tmp_path / "README.md").read_text()
    assert (tmp_path / "distance.png").is_file()


def test_a_class_may_be_called_as_it_likes(tmp_path):
    spec = dataclasses.replace(harness.spec(2), classes=("car|bus", "$x$"))
    evaluation = Evaluation(spec)
    evaluation.semseg.add(np.array([[0, 1]]), np.array([[0, 1]]), np.ones((1, 2)))
    evaluation_report.write(tmp_path, evaluation, {"model": "a", "dataset": "b", "split": "val"})
    assert "\n| car\\|bus | 100.00 |\n| $x$ | 100.00 |\n" in (tmp_path / "README.md").read_text()


def test_agrees_with_what_training_logs():
    model = harness.tiny_model()
    harness.randomize(model)
    batches = [(harness.images(2, 32, 48, seed), harness.labels(2, 32, 48, 4, seed)) for seed in range(3)]
    results = evaluate(model, batches).results()
    model.compile()
    logs = [model.evaluate(x, y, batch_size=2, verbose=0, return_dict=True) for x, y in batches]
    assert np.mean([log["silog"] for log in logs]) == pytest.approx(results["silog"], rel=1e-5)
    together = {name: np.concatenate([y[name] for _, y in batches]) for name in ("semseg", "depth")}
    log = model.evaluate(np.concatenate([x for x, _ in batches]), together, batch_size=6, verbose=0, return_dict=True)
    assert log["miou"] == pytest.approx(results["miou"], rel=1e-5)
    assert log["grader"] == pytest.approx(results["grader"], rel=1e-4)


def test_a_perfect_prediction():
    labels = harness.labels(2, 64, 64, 3)
    evaluation = Evaluation(harness.spec(3))
    ids = np.where(labels["semseg"] == 255, 0, labels["semseg"])
    depth = np.where(labels["depth"] == 0, 50, labels["depth"])[..., 0]
    evaluation.add(labels, [Prediction(*parts) for parts in zip(ids, depth, np.ones_like(depth), strict=True)])
    results = evaluation.results()
    assert results["grader"] == pytest.approx(100) and results["miou"] == 100 and results["silog"] == 0
    perfect = {name: 100.0 if name.startswith("delta") else 0.0 for name in MEASURES}
    assert results["depth"]["pooled"] == pytest.approx(perfect)


@pytest.mark.parametrize("wrong", [-1, 2, 255])
def test_a_predicted_id_that_is_no_class_is_a_miss_of_the_true_one(wrong):
    errors = SemsegErrors(2)
    errors.add(np.array([[0, 0, 1, 255]]), np.array([[0, wrong, 1, wrong]]))
    np.testing.assert_array_equal(errors.confusion, [[1, 0], [0, 1]])
    assert errors.iou().tolist() == [50, 100]
    assert errors.results(["a", "b"])["pixel_accuracy"] == pytest.approx(200 / 3)
