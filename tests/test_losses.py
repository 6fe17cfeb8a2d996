"""The losses against NumPy in float64, and with labels and predictions of the worst kind."""

import types

import keras
import numpy as np
import pytest
from keras import layers

from mtl_keras import DepthLoss, MeanIoU, SegmentationLoss, SILogRMSE
from mtl_keras.data.spec import IGNORE_LABEL
from mtl_keras.losses import check_labels
from tests import harness


def cross_entropy(labels, logits) -> float:
    logits = logits.astype("float64")
    top = logits.max(axis=-1, keepdims=True)
    log_probabilities = logits - top - np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))
    valid = labels != IGNORE_LABEL
    return -log_probabilities[valid, labels[valid]].mean()


def depth_error(depth, prediction, std: float) -> float:
    errors = ((prediction.astype("float64") - depth) / std) ** 2
    return np.mean([error[true > 0].mean() for error, true in zip(errors, depth, strict=True) if (true > 0).any()])


def example(batch=3):
    rng = np.random.default_rng(1)
    labels = harness.labels(batch, 32, 48)
    logits = rng.normal(0, 3, (batch, 32, 48, 19)).astype("float32")
    depth = rng.uniform(-20, 200, (batch, 32, 48, 1)).astype("float32")
    return labels, {"semseg": logits, "depth": depth}


def test_segmentation_is_cross_entropy_over_valid_pixels():
    labels, predictions = example()
    labels["semseg"][1] = IGNORE_LABEL
    loss = SegmentationLoss()(labels["semseg"], predictions["semseg"])
    assert float(loss) == pytest.approx(cross_entropy(labels["semseg"], predictions["semseg"]), rel=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
def test_labels_of_any_dtype(dtype):
    labels, predictions = example()
    loss = SegmentationLoss()(labels["semseg"].astype(dtype), predictions["semseg"])
    assert float(loss) == pytest.approx(cross_entropy(labels["semseg"], predictions["semseg"]), rel=1e-6)


def test_depth_is_the_mean_over_images_of_their_means():
    labels, predictions = example()
    labels["depth"][0, 4:] = 0
    labels["depth"][1] = 0
    loss = DepthLoss(12.5)(labels["depth"], predictions["depth"])
    assert float(loss) == pytest.approx(depth_error(labels["depth"], predictions["depth"], 12.5), rel=1e-6)


@pytest.mark.parametrize("invalid", [0.0, -1.0, np.nan, np.inf, -np.inf])
def test_an_invalid_depth_costs_nothing(invalid):
    labels, predictions = example()
    expected = DepthLoss()(labels["depth"], predictions["depth"])
    depth = np.where(labels["depth"] == 0, np.float32(invalid), labels["depth"])
    assert float(DepthLoss()(depth, predictions["depth"])) == float(expected)


NOTHING_VALID = {"semseg": np.full((2, 32, 32), 255), "depth": np.zeros((2, 32, 32, 1), "float32")}
NOT_FINITE = {"semseg": np.full((2, 32, 32), 3), "depth": np.full((2, 32, 32, 1), np.nan, "float32")}
NOT_FINITE["depth"][:, ::2] = np.inf
CONSTANT = {"semseg": np.full((2, 32, 32), 3), "depth": np.full((2, 32, 32, 1), 40.0, "float32")}


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("labels", [NOTHING_VALID, NOT_FINITE, CONSTANT], ids=["ignored", "not finite", "constant"])
def test_extremes_stay_finite(precision, policy, labels):
    """A black image, logits of ±10000: loss and gradients are finite, and zero where all is ignored."""
    precision(policy)
    model = harness.tiny_model()
    model.get_layer("predict").bias.assign(np.array([1e4, -1e4, 0, 0, 0]))
    before = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    # Unscaled, since a scaled loss skips a step whose gradients are not finite.
    model.compile(keras.optimizers.SGD(1.0), auto_scale_loss=False)
    logs = model.train_on_batch(np.zeros((2, 32, 32, 3), "float32"), labels, return_dict=True)
    after = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    assert np.isfinite(logs["loss"])
    assert all(np.isfinite(weight).all() for weight in after)
    if labels is NOTHING_VALID:
        assert logs["loss"] == 0
        assert all(np.array_equal(*pair) for pair in zip(before, after, strict=True))
    else:
        assert not all(np.array_equal(*pair) for pair in zip(before, after, strict=True))


def test_confidently_wrong_logits_cost_their_distance():
    logits = np.zeros((1, 2, 2, 19), "float32")
    logits[..., 5] = 1e4
    assert float(SegmentationLoss()(np.zeros((1, 2, 2)), logits)) == 1e4
    assert float(SegmentationLoss()(np.full((1, 2, 2), 5), logits)) == 0


def test_losses_and_metrics_work_in_any_model():
    """A plain functional model with a dict of outputs, compiled the usual way."""
    image = keras.Input((32, 32, 3))
    outputs = {"semseg": layers.Conv2D(4, 1)(image), "depth": layers.Conv2D(1, 1)(image)}
    model = keras.Model(image, outputs)
    model.compile(
        keras.optimizers.SGD(0.0),
        loss={"semseg": SegmentationLoss(), "depth": DepthLoss()},
        metrics={"semseg": MeanIoU(4), "depth": SILogRMSE((4.0, 300.0))},
    )
    x, y = harness.images(2, 32, 32), harness.labels(2, 32, 32, num_classes=4)
    logs = model.fit(x, y, batch_size=2, verbose=0).history
    predictions = model.predict(x, verbose=0)
    assert logs["semseg_loss"][0] == pytest.approx(cross_entropy(y["semseg"], predictions["semseg"]), rel=1e-5)
    assert logs["depth_loss"][0] == pytest.approx(depth_error(y["depth"], predictions["depth"], 29.1264), rel=1e-5)
    miou, silog = MeanIoU(4), SILogRMSE((4.0, 300.0))
    miou.update_state(y["semseg"], predictions["semseg"])
    silog.update_state(y["depth"], predictions["depth"])
    assert logs["semseg_miou"][0] == pytest.approx(float(miou.result()), rel=1e-5)
    assert logs["depth_silog"][0] == pytest.approx(float(silog.result()), rel=1e-5)


def test_labels_with_an_axis_of_channels_cost_the_same():
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 5, (2, 8, 8)), rng.normal(size=(2, 8, 8, 4)).astype("float32")
    assert float(SegmentationLoss()(labels[..., None], logits)) == float(SegmentationLoss()(labels, logits))


@pytest.mark.parametrize("loss", [SegmentationLoss(name="labels"), DepthLoss(std=3.5)])
def test_config_round_trip(loss):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(copy) is type(loss) and copy.get_config() == loss.get_config()


def test_depth_may_come_without_its_last_axis():
    true, predicted = np.random.default_rng(0).uniform(4, 300, (2, 2, 8, 6, 1)).astype("float32")
    for measure in (DepthLoss, SILogRMSE):
        assert float(measure()(true[..., 0], predicted)) == float(measure()(true, predicted))


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda y: y["semseg"],
            r"labels: a \w+ is no dict; give {\"semseg\": \(batch, height, width\) ids, 255 = ignore",
        ),
        (lambda y: (y["semseg"], y["depth"]), "labels: a tuple is no dict"),
        (lambda y: y | {"depth": None}, "labels: 'depth' is missing"),
        (
            lambda y: {"semseg": y["semseg"]},
            "labels: 'depth' is missing; give .* that value everywhere where there is none",
        ),
        (
            lambda y: {**y, "semseg": np.stack(4 * [y["semseg"]], -1)},
            r"labels: 'semseg' is \(.*, 32, 48, 4\) for images",
        ),
        (lambda y: {**y, "depth": y["depth"][:, ::2]}, r"labels: 'depth' is \(.*, 16, 48, 1\) for images of 32×48 px"),
        (lambda y: {**y, "semseg": y["semseg"].transpose(0, 2, 1)}, r"labels: 'semseg' is \(.*, 48, 32\) for images"),
    ],
    ids=["array", "tuple", "none", "one task", "one-hot", "smaller", "turned"],
)
def test_labels_that_are_not_both_tasks_are_refused(change, message):
    model = harness.tiny_model()
    model.compile("adam")
    x, y = harness.images(2, 32, 48), harness.labels(2, 32, 48, num_classes=4)
    with pytest.raises(ValueError, match=message):
        model.fit(x, change(y), verbose=0)


def test_labels_that_are_no_whole_number_of_a_class_are_ignored():
    labels, logits = np.array([[[1.0, np.nan, -0.5, np.inf]]], "float32"), np.zeros((1, 1, 4, 3), "float32")
    logits[..., 2] = 5
    expected = cross_entropy(np.array([[[1]]]), logits[:, :, :1])
    assert float(SegmentationLoss()(labels, logits)) == pytest.approx(expected, rel=1e-6)


def test_weights_of_samples_are_refused():
    labels, predictions = example()
    for task, loss in (("semseg", SegmentationLoss()), ("depth", DepthLoss())):
        with pytest.raises(ValueError, match=f"{task}_loss: takes no sample_weight; mark what must not count"):
            loss(labels[task], predictions[task], sample_weight=np.ones(3))


def test_predictions_are_not_spread_over_labels():
    labels, predictions = example()
    for task, loss in (("semseg", SegmentationLoss()), ("depth", DepthLoss())):
        with pytest.raises(ValueError, match=rf"{task}_loss: labels \(3, .* and predictions \(1, .* differ in shape"):
            loss(labels[task], predictions[task][:1])


def test_labels_whose_axes_tensorflow_has_lost_are_told():
    """It compiles once more for two numbers of axes, and then knows neither."""
    tf = pytest.importorskip("tensorflow")
    labels = dict.fromkeys(("semseg", "depth"), types.SimpleNamespace(shape=tf.TensorShape(None)))
    with pytest.raises(ValueError, match="labels: 'semseg' had another number of axes before; give .*, in every call"):
        check_labels(labels, {})
