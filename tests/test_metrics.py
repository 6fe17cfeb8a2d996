"""The metrics against NumPy, cityscapesScripts and closed forms, and the counts where machines stop counting."""

import re

import keras
import numpy as np
import pytest
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as cityscapes
from cityscapesscripts.helpers.labels import labels as cityscapes_labels
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_keras import MINISCAPES, MeanIoU, SILogRMSE, grader


def confusion(labels, predictions, classes: int) -> np.ndarray:
    """Pixel by pixel, as it is defined."""
    matrix = np.zeros((classes, classes), "int64")
    for label, prediction in zip(labels.ravel(), predictions.ravel(), strict=True):
        if label < classes:
            matrix[label, prediction] += 1
    return matrix


def miou_of(matrix: np.ndarray) -> float:
    """In exact integers as far as the division; a class that never occurs counts 0."""
    ious = []
    for index in range(len(matrix)):
        either = int(matrix[index].sum()) + int(matrix[:, index].sum()) - int(matrix[index, index])
        ious.append(int(matrix[index, index]) / either if either else 0.0)
    return 100 * float(np.mean(ious))


def maps(classes: int, seed: int = 0):
    """Labels with ignored pixels, and predictions that are right for half of them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, (2, 24, 32))
    predictions = np.where(rng.random(labels.shape) < 0.5, labels, rng.integers(0, classes, labels.shape))
    labels[rng.random(labels.shape) < 0.2] = 255
    return labels, predictions


class TestMeanIoU:
    @pytest.mark.parametrize("classes", [2, 5, 19, 40])
    def test_counts_as_defined_over_several_batches(self, classes):
        metric = MeanIoU(classes)
        expected = np.zeros((classes, classes), "int64")
        for seed in range(3):
            labels, predictions = maps(classes, seed)
            logits = np.eye(classes, dtype="float32")[predictions]
            metric.update_state(labels, logits)
            expected += confusion(labels, predictions, classes)
        assert np.array_equal(metric.confusion_matrix(), expected)
        assert float(metric.result()) == pytest.approx(miou_of(expected), rel=1e-6)

    def test_equals_cityscapes_scripts_where_all_classes_occur(self):
        labels, predictions = maps(19)
        metric = MeanIoU(19)
        metric.update_state(labels, predictions)
        matrix = self.cityscapes_matrix(metric.confusion_matrix())
        ids = {label.trainId: label.id for label in cityscapes_labels if not label.ignoreInEval}
        scores = {i: cityscapes.getIouScoreForLabel(ids[i], matrix, cityscapes.args) for i in range(19)}
        assert float(metric.result()) == pytest.approx(100 * cityscapes.getScoreAverage(scores, None), rel=1e-6)

    def cityscapes_matrix(self, counts):
        """Train ids become label ids."""
        matrix = cityscapes.generateMatrix(cityscapes.args)
        ids = [label.id for label in cityscapes_labels if not label.ignoreInEval]
        matrix[np.ix_(ids, ids)] = counts
        return matrix

    def test_classes_are_cityscapes(self):
        named = [label for label in cityscapes_labels if not label.ignoreInEval]
        assert [label.trainId for label in named] == list(range(19))
        assert tuple(label.name for label in named) == MINISCAPES.classes
        assert tuple(label.color for label in named) == MINISCAPES.palette

    def test_a_class_that_never_occurs_counts_zero(self):
        metric = MeanIoU(4)
        labels = np.array([[[0, 1, 255]]])
        metric.update_state(labels, np.array([[[0, 1, 3]]]))
        assert float(metric.result()) == pytest.approx(50.0)

    def test_nothing_valid_counts_nothing(self):
        metric = MeanIoU(3)
        metric.update_state(np.full((2, 4, 4), 255), np.zeros((2, 4, 4, 3), "float32"))
        assert metric.confusion_matrix().sum() == 0
        assert np.isnan(float(metric.result()))

    @pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
    def test_labels_of_any_dtype(self, dtype):
        labels, predictions = maps(5)
        metric = MeanIoU(5)
        metric.update_state(labels.astype(dtype), predictions)
        assert np.array_equal(metric.confusion_matrix(), confusion(labels, predictions, 5))

    def test_labels_with_an_axis_of_channels_count_alike(self):
        labels, predictions = maps(5)
        logits = np.eye(5, dtype="float32")[predictions]
        for predicted in (predictions, logits):
            metric = MeanIoU(5)
            metric.update_state(labels[..., None], predicted)
            assert np.array_equal(metric.confusion_matrix(), confusion(labels, predictions, 5))

    def test_counts_carry_from_one_limb_to_the_next(self):
        """Three and a half million pixels by real updates, past 2^20 several times."""
        metric = MeanIoU(2)
        labels = np.zeros((1, 1024, 1023), "uint8")
        predictions = np.zeros_like(labels)
        predictions[:, 0] = 1
        for _ in range(7):
            metric.update_state(labels, predictions)
        assert metric.confusion_matrix().tolist() == [[7 * 1023 * 1023, 7 * 1023], [0, 0]]

    @pytest.mark.parametrize("start", [2**24 - 3, 2**31 - 3, 2**32 - 3, 10**12, 2**50])
    def test_counts_exactly_where_float32_and_int32_stop(self, start):
        """From a count that a long run would have reached, one pixel at a time and a thousand."""
        metric = MeanIoU(2)
        high, low = divmod(start, 2**20)
        metric.high.assign(np.array([high, 0, 0, 0, high, 0]))
        metric.low.assign(np.array([low, 0, 0, 0, low, 0]))
        for _ in range(5):
            metric.update_state(np.array([[[0]]]), np.array([[[0]]]))
        metric.update_state(np.zeros((1, 40, 25), "int32"), np.ones((1, 40, 25), "int32"))
        matrix = metric.confusion_matrix()
        assert matrix.tolist() == [[start + 5, 1000], [0, start]]
        assert float(metric.result()) == pytest.approx(miou_of(matrix), rel=1e-6)

    @pytest.mark.parametrize("wrong", [3, 19, 255, -1])
    def test_a_predicted_id_that_is_no_class_is_a_miss(self, wrong):
        """Of four pixels of class 0 one is found, of two of class 1 both; nothing is counted of a third class."""
        metric = MeanIoU(3)
        labels, predictions = np.array([[[0, 0, 0, 0, 1, 1]]]), np.array([[[0, wrong, wrong, wrong, 1, 1]]])
        metric.update_state(labels, predictions)
        assert metric.confusion_matrix().tolist() == [[1, 0, 0], [0, 2, 0], [0, 0, 0]]
        assert float(metric.result()) == pytest.approx(100 * (1 / 4 + 1 + 0) / 3)

    def test_a_last_axis_of_one_does_not_count(self):
        labels, logits = np.array([[[0, 1, 2]]]), np.eye(3)[[[[0, 1, 1]]]]
        for y_true in (labels, labels[..., None]):
            for y_pred in (logits, logits.argmax(-1), logits.argmax(-1)[..., None]):
                metric = MeanIoU(3)
                metric.update_state(y_true, y_pred)
                assert float(metric.result()) == pytest.approx(100 * (1 + 1 / 2 + 0) / 3)

    def test_sample_weight_is_refused(self):
        with pytest.raises(ValueError, match="sample_weight"):
            MeanIoU(2).update_state(np.zeros((1, 2, 2)), np.zeros((1, 2, 2)), sample_weight=np.ones(1))


def silog_of(true, predicted, depth_range=None) -> float:
    """The definition, in float64."""
    values = []
    for depth, prediction in zip(true.astype("float64"), predicted.astype("float64"), strict=True):
        if depth_range is not None:
            prediction = np.clip(prediction, *depth_range)
        valid = depth > 0
        if valid.any():
            d = np.log(np.maximum(prediction[valid], 0.01)) - np.log(np.maximum(depth[valid], 0.01))
            values.append(100 * d.std())
    return float(np.mean(values))


def depths(seed=0, invalid=0.3):
    rng = np.random.default_rng(seed)
    true = np.exp(rng.uniform(np.log(4), np.log(300), (3, 32, 48, 1))).astype("float32")
    true[rng.random(true.shape) < invalid] = 0
    return true, np.exp(rng.uniform(np.log(2), np.log(400), true.shape)).astype("float32")


def silog(true, predicted, depth_range=None) -> float:
    metric = SILogRMSE(depth_range)
    metric.update_state(true, predicted)
    return float(metric.result())


class TestSILogRMSE:
    def test_is_the_mean_over_images(self):
        metric = SILogRMSE()
        batches = [depths(seed) for seed in range(3)]
        batches[1][0][0] = 0
        for true, predicted in batches:
            metric.update_state(true, predicted)
        true, predicted = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        assert float(metric.result()) == pytest.approx(silog_of(true, predicted), abs=1e-4)

    @pytest.mark.parametrize("depth_range", [(4.0, 300.0), (10.0, 20.0)])
    def test_predictions_are_clamped_to_the_range(self, depth_range):
        true, predicted = depths()
        predicted[:, ::5] *= -1
        assert silog(true, predicted, depth_range) == pytest.approx(silog_of(true, predicted, depth_range), abs=1e-4)

    def test_predictions_that_are_not_positive_are_clamped_to_a_centimetre(self):
        true, predicted = depths()
        predicted[:, ::50] = -3
        assert silog(true, predicted) == pytest.approx(silog_of(true, predicted), abs=1e-4)

    @pytest.mark.parametrize("ratio", [1.0, 1e-3, 70.0])
    @pytest.mark.parametrize("spread", [0.0, 1e-5, 1e-3])
    def test_a_nearly_constant_ratio_keeps_its_digits(self, ratio, spread):
        """mean(d²) - mean(d)² in float32 has no digit left here; what is left is the rounding of the inputs."""
        true, _ = depths()
        noise = np.random.default_rng(0).normal(0, spread, true.shape)
        predicted = (true * ratio * np.exp(noise)).astype("float32")
        predicted[true == 0] = 5
        assert silog(true, predicted) == pytest.approx(silog_of(true, predicted), abs=1e-4)

    @settings(max_examples=20, deadline=None)
    @given(st.floats(0.05, 20), st.integers(0, 100))
    def test_does_not_know_the_scale(self, scale, seed):
        true, predicted = depths(seed)
        assert silog(true, (predicted * scale).astype("float32")) == pytest.approx(silog(true, predicted), abs=1e-3)

    def test_two_pixels_by_hand(self):
        """d is ln 2 and 0, so the deviation is half of ln 2."""
        true, predicted = np.full((1, 1, 2, 1), 10.0), np.array([20.0, 10.0]).reshape(1, 1, 2, 1)
        assert silog(true, predicted) == pytest.approx(50 * np.log(2), rel=1e-6)

    @pytest.mark.parametrize("invalid", [0.0, -1.0, np.nan, np.inf])
    def test_invalid_pixels_do_not_count(self, invalid):
        true, predicted = depths()
        expected = silog_of(true, predicted)
        predicted[true == 0] = np.nan
        assert silog(np.where(true == 0, np.float32(invalid), true), predicted) == pytest.approx(expected, abs=1e-4)

    def test_nothing_valid_is_nan_and_leaves_what_was_counted(self):
        true, predicted = depths()
        metric = SILogRMSE()
        metric.update_state(np.zeros_like(true), predicted)
        assert np.isnan(float(metric.result()))
        metric.update_state(true, predicted)
        assert float(metric.result()) == pytest.approx(silog_of(true, predicted), abs=1e-4)


@pytest.mark.parametrize(
    "miou, silog, expected",
    [
        (84.53, 19.33, 65.20),
        (69.919, 26.333, 43.586),
        (40.0, 60.0, 0.0),
        (50.0, 50.0, 0.0),
        (40.0, 20.0, 30.0),
        (90.0, 70.0, 40.0),
        (100.0, 0.0, 100.0),
        (80.0, np.nan, 30.0),
        (np.nan, 20.0, 30.0),
        (np.nan, np.nan, 0.0),
    ],
)
def test_grader(miou, silog, expected):
    assert float(grader(miou, silog)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("metric", [MeanIoU(7), SILogRMSE((2.0, 80.0))])
def test_config_round_trip_and_reset(metric):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert type(copy) is type(metric)
    ones = np.ones((1, 2, 2, 1), "float32")
    values = (ones[..., 0], ones[..., 0]) if isinstance(copy, MeanIoU) else (ones, 3 * ones)
    fresh = float(copy.result())
    copy.update_state(*values)
    metric.update_state(*values)
    assert float(copy.result()) == float(metric.result())
    copy.reset_state()
    assert float(copy.result()) == pytest.approx(fresh, nan_ok=True)


def test_predictions_are_not_spread_over_labels():
    ones = np.ones((4, 8, 8), "float32")
    for metric, labels, predictions in (
        (MeanIoU(3), ones, np.ones((1, 8, 8, 3), "float32")),
        (MeanIoU(3), ones, ones[:1]),
        (MeanIoU(3), ones[0, ..., None], np.ones((8, 8, 3), "float32")),
        (SILogRMSE(), ones[..., None], ones[:1, ..., None]),
        (SILogRMSE(), ones[..., None], np.ones((4, 8, 8, 2), "float32")),
    ):
        with pytest.raises(ValueError, match=rf"{metric.name}: labels \(.*\) and predictions \(.*\) differ in shape"):
            metric.update_state(labels, predictions)


@pytest.mark.parametrize("num_classes", [0, -1])
def test_a_mean_over_no_classes_is_refused(num_classes):
    with pytest.raises(ValueError, match=f"MeanIoU of {num_classes} classes has no mean; give 1 or more"):
        MeanIoU(num_classes)


@pytest.mark.parametrize("depth_range", [(10, 1), (0, 80), (5, 5)])
def test_a_range_that_nothing_can_be_clamped_to_is_refused(depth_range):
    with pytest.raises(ValueError, match=re.escape(f"cannot clamp to {depth_range}; give least and greatest depth")):
        SILogRMSE(depth_range)


def test_the_default_float_is_not_the_metrics():
    before = keras.config.floatx()
    try:
        keras.config.set_floatx("float64")
        metric = SILogRMSE()
    finally:
        keras.config.set_floatx(before)
    depth = np.full((1, 2, 2, 1), 5.0, "float32")
    metric.update_state(depth, depth)
    assert float(metric.result()) == 0 and all(variable.dtype == "float32" for variable in metric.variables)
