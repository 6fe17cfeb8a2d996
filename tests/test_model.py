"""What a `MultiTaskModel` promises to those who train, save and load it."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

from mtl_keras import Adam, DepthLoss, MultiTaskModel, SegmentationLoss
from mtl_keras.losses import valid_depth
from tests import harness
from tests.test_losses import cross_entropy, depth_error
from tests.test_metrics import confusion, miou_of, silog_of

SIZE = (32, 48)


def data(batch: int, seed: int = 0):
    return harness.images(batch, *SIZE, seed), harness.labels(batch, *SIZE, num_classes=4, seed=seed)


def expected_logs(model: MultiTaskModel, x, y) -> dict[str, float]:
    """The split's own numbers, from its predictions at once, in float64."""
    predictions = harness.outputs(model, x)
    semseg = cross_entropy(y["semseg"], predictions["semseg"])
    depth = depth_error(y["depth"], predictions["depth"], model.spec.depth_std)
    miou = miou_of(confusion(y["semseg"], predictions["semseg"].argmax(-1), 4))
    silog = silog_of(y["depth"], predictions["depth"], model.spec.depth_range)
    return {
        "loss": 0.5 * semseg + 0.5 * depth,
        "semseg_loss": semseg,
        "depth_loss": depth,
        "miou": miou,
        "silog": silog,
        "grader": max(miou - 50, 0) + max(50 - silog, 0),
    }


def test_logs_have_the_contracts_names():
    model = harness.tiny_model()
    model.compile("adam")
    x, y = data(4)
    history = model.fit(x, y, batch_size=2, epochs=2, validation_data=(x, y), verbose=0).history
    assert set(history) == harness.LOGS | {f"val_{name}" for name in harness.LOGS}


@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_epoch_logs_are_the_splits_own_whatever_the_batch_size(batch_size):
    """With images that weigh unequally: few labels, no class, no depth, nothing at all."""
    model = harness.tiny_model()
    harness.randomize(model)
    x, y = data(7)
    y["semseg"][0, 5:] = 255
    y["semseg"][1] = 255
    y["depth"][2, 3:] = 0
    y["depth"][3] = 0
    y["semseg"][4], y["depth"][4] = 255, 0
    model.compile("adam")
    logs = model.evaluate(x, y, batch_size=batch_size, return_dict=True, verbose=0)
    assert logs == pytest.approx(expected_logs(model, x, y), rel=1e-5)


class Batches(keras.utils.PyDataset):
    """Batches as they are given, of whatever size."""

    def __init__(self, *batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def test_padding_does_not_change_an_epochs_losses():
    """Batches whose shape differs, and one that is all padding."""
    model = harness.tiny_model()
    harness.randomize(model)
    x, y = data(4)
    model.compile("adam")
    first, last = ((x[half], {name: value[half] for name, value in y.items()}) for half in (slice(3), slice(3, None)))
    padding = x[:, :16], {"semseg": np.full((4, 16, 48), 255), "depth": np.zeros((4, 16, 48, 1))}
    logs = model.evaluate(Batches(first, padding, last), return_dict=True, verbose=0)
    assert logs == pytest.approx(expected_logs(model, x, y), rel=1e-5)


def test_every_epoch_counts_anew():
    model = harness.tiny_model()
    # Or its moving statistics would move.
    model.get_layer("norm").trainable = False
    model.compile(keras.optimizers.SGD(0.0))
    x, y = data(4)
    history = model.fit(x, y, batch_size=2, epochs=3, shuffle=False, validation_data=(x, y), verbose=0).history
    for name, values in history.items():
        assert values[1:] == pytest.approx(values[:1] * 2, rel=1e-6), name
    assert history["loss"] == pytest.approx(history["val_loss"], rel=1e-6)


def test_grader_can_be_monitored(tmp_path):
    """The checkpoint keeps the best epoch, and early stopping ends after the patience without a better one."""
    model = harness.tiny_model()
    model.compile(keras.optimizers.SGD(0.0))
    x, y = data(4)
    path = tmp_path / "best.keras"
    scores = []

    class Spoil(keras.callbacks.Callback):
        """From the second epoch on, depth is predicted worse and worse."""

        def on_epoch_begin(self, epoch, logs=None):
            predict = model.get_layer("predict")
            kernel = np.zeros(predict.kernel.shape, "float32")
            kernel[..., -1] = 0.05 * epoch
            predict.kernel.assign(kernel)

        def on_epoch_end(self, epoch, logs=None):
            scores.append(logs["val_grader"])

    monitors = [
        Spoil(),
        keras.callbacks.ModelCheckpoint(path, monitor="val_grader", mode="max", save_best_only=True),
        keras.callbacks.EarlyStopping("val_grader", mode="max", patience=2),
    ]
    # Depths that differ little, so that the constant prediction of the first epoch scores.
    y["depth"] = np.where(y["depth"] > 0, 20 + y["depth"] / 20, 0).astype("float32")
    model.fit(x, y, batch_size=4, epochs=9, validation_data=(x, y), callbacks=monitors, verbose=0)
    assert len(scores) == 3 and scores[0] > max(scores[1:])
    best = keras.saving.load_model(path)
    assert best.evaluate(x, y, return_dict=True, verbose=0)["grader"] == pytest.approx(scores[0], rel=1e-5)


def test_loss_weights():
    model = harness.tiny_model()
    x, y = data(2)
    logs = {}
    for weights in (None, {"semseg": 0.3, "depth": 0.7}, {"depth": 0.0}):
        model.compile("adam", loss_weights=weights)
        logs = model.evaluate(x, y, return_dict=True, verbose=0)
        semseg, depth = (0.5, 0.5) if weights is None else (weights.get("semseg", 0.5), weights["depth"])
        expected = semseg * logs["semseg_loss"] + depth * logs["depth_loss"]
        assert logs["loss"] == pytest.approx(expected, rel=1e-6)


def test_a_weight_of_zero_trains_the_other_task_only():
    model = harness.tiny_model()
    model.compile(keras.optimizers.SGD(1.0), loss_weights={"semseg": 1.0, "depth": 0.0})
    before = keras.ops.convert_to_numpy(model.get_layer("predict").kernel)
    model.train_on_batch(*data(2))
    moved = np.abs(keras.ops.convert_to_numpy(model.get_layer("predict").kernel) - before).max(axis=(0, 1, 2))
    assert (moved[:4] > 0).all() and moved[4] == 0


def test_a_losss_own_replacement_is_used():
    model = harness.tiny_model()
    x, y = data(2)
    model.compile("adam", loss={"depth": DepthLoss(1.0)})
    replaced = model.evaluate(x, y, return_dict=True, verbose=0)
    model.compile("adam")
    default = model.evaluate(x, y, return_dict=True, verbose=0)
    assert replaced["depth_loss"] == pytest.approx(default["depth_loss"] * model.spec.depth_std**2, rel=1e-5)
    assert replaced["semseg_loss"] == pytest.approx(default["semseg_loss"], rel=1e-6)


@pytest.mark.parametrize("argument", ["loss", "loss_weights"])
def test_an_unknown_task_is_refused(argument):
    with pytest.raises(ValueError, match=f"{argument}: no task 'sematic'; the tasks are semseg and depth"):
        harness.tiny_model().compile("adam", **{argument: {"sematic": 1.0}})


@pytest.mark.parametrize(
    "given, message",
    [
        ({"loss": "mse"}, "loss: 'mse' is no dict; give one with semseg and depth"),
        ({"loss": {"depth": "mse"}}, "loss: 'mse' of depth cannot be called"),
        ({"loss": {"depth": keras.losses.MeanAbsoluteError}}, "of depth cannot be called; give a loss"),
        ({"loss_weights": {"depth": "1"}}, "loss_weights: '1' of depth is no number"),
        ({"metrics": ["accuracy"]}, "metrics: the model brings its own"),
    ],
)
def test_what_cannot_be_trained_with_is_refused_at_once(given, message):
    with pytest.raises(ValueError, match=message):
        harness.tiny_model().compile("adam", **given)


def test_sample_weight_is_refused():
    model = harness.tiny_model()
    model.compile("adam")
    with pytest.raises(ValueError, match="sample_weight: not supported"):
        model.fit(*data(2), sample_weight=np.ones(2), verbose=0)


def test_several_predictions_of_a_task_share_its_loss():
    """Deep supervision: the loss is the mean of both, the metrics are the final one's."""
    tiny = harness.tiny_model()
    late = layers.Conv2D(4, 1, name="late")(tiny.get_layer("relu").output)
    outputs = {"semseg": late, "depth": tiny.output["depth"], "semseg_initial": tiny.output["semseg"]}
    model = MultiTaskModel(tiny.input, outputs, spec=tiny.spec)
    x, y = data(2)
    predictions = harness.outputs(model, x)
    model.compile("adam")
    logs = model.evaluate(x, y, return_dict=True, verbose=0)
    losses = [cross_entropy(y["semseg"], predictions[name]) for name in ("semseg", "semseg_initial")]
    assert logs["semseg_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert logs["miou"] == pytest.approx(miou_of(confusion(y["semseg"], predictions["semseg"].argmax(-1), 4)), rel=1e-5)


def test_predict_clamps_depth_and_training_does_not():
    model = harness.tiny_model(depth_range=(20.0, 25.0))
    harness.randomize(model)
    x, _ = data(2)
    raw, clamped = harness.outputs(model, x)["depth"], model.predict(x, verbose=0)["depth"]
    assert raw.min() < 20 and raw.max() > 25
    np.testing.assert_allclose(clamped, np.clip(raw, 20, 25), rtol=1e-5)
    np.testing.assert_array_equal(model.predict_on_batch(x)["depth"], clamped)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_a_loaded_model_trains_on_as_the_saved_one(tmp_path, precision, policy):
    """Weights, moments, losses and weights of the tasks survive; nothing needs `custom_objects`."""
    precision(policy)
    x, y = data(4)
    model = harness.tiny_model()
    model.compile(Adam(1e-2, weight_decay=1e-3), loss={"depth": DepthLoss(5.0)}, loss_weights={"semseg": 0.8})
    model.fit(x, y, epochs=2, batch_size=4, verbose=0)
    model.save(tmp_path / "model.keras")
    # The global policy is another by now; a model keeps its own.
    precision("float32")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is MultiTaskModel and loaded.spec == model.spec
    for variables in (lambda m: m.weights, lambda m: m.optimizer.variables):
        for actual, value in zip(variables(loaded), variables(model), strict=True):
            assert np.array_equal(keras.ops.convert_to_numpy(actual), keras.ops.convert_to_numpy(value))
    further, expected = (m.fit(x, y, epochs=3, batch_size=4, verbose=0).history for m in (loaded, model))
    for name in expected:
        assert further[name] == pytest.approx(expected[name], rel=1e-4), name


def test_a_clone_is_the_same_model_with_weights_of_its_own():
    x, y = data(4)
    model = harness.tiny_model(depth_range=(20.0, 25.0))
    model.architecture["arch"] = "tiny"
    model.compile(Adam(1e-2), loss={"depth": DepthLoss(5.0)}, loss_weights={"semseg": 0.8})
    clone = keras.models.clone_model(model)
    assert type(clone) is MultiTaskModel
    assert (clone.spec, clone.architecture, clone.task_weights) == (model.spec, model.architecture, model.task_weights)
    assert not np.array_equal(*(keras.ops.convert_to_numpy(m.get_layer("conv").kernel) for m in (clone, model)))
    clone.set_weights(model.get_weights())
    histories = [m.fit(x, y, batch_size=4, epochs=3, verbose=0).history for m in (clone, model)]
    for name, values in histories[1].items():
        assert histories[0][name] == pytest.approx(values, rel=1e-5), name


def test_a_model_without_a_spec_is_refused():
    model = harness.tiny_model()
    with pytest.raises(ValueError, match="spec: missing; give MultiTaskModel the DataSpec of its dataset"):
        MultiTaskModel(model.input, dict(model.output))


class EndlessBatches(keras.utils.PyDataset):
    """As a training loader's: three batches an epoch, and then over again."""

    num_batches = None

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return data(2, seed=index % 3)


def test_batches_without_end_are_evaluated_and_predicted_for_one_epoch():
    model = harness.tiny_model()
    harness.randomize(model)
    model.compile(keras.optimizers.SGD(0.0))
    batches = [data(2, seed) for seed in range(3)]
    x, y = (
        keras.tree.map_structure(lambda *parts: np.concatenate(parts), *part) for part in zip(*batches, strict=True)
    )
    expected = model.evaluate(x, y, batch_size=2, return_dict=True, verbose=0)
    assert model.evaluate(EndlessBatches(), return_dict=True, verbose=0) == pytest.approx(expected, rel=1e-6)
    assert len(model.predict(EndlessBatches(), verbose=0)["depth"]) == 6
    options = {"steps_per_epoch": 5, "epochs": 1, "shuffle": False, "verbose": 0}
    history = model.fit(EndlessBatches(), validation_data=EndlessBatches(), **options).history
    assert np.isfinite(history["val_loss"][0])
    model.fit(EndlessBatches(), epochs=2, shuffle=False, verbose=0)
    assert int(model.optimizer.iterations) == 5 + 2 * 3


def test_a_model_that_was_not_compiled_is_saved_too(tmp_path):
    model = harness.tiny_model()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x, _ = data(2)
    assert not loaded.compiled
    assert np.array_equal(harness.outputs(loaded, x)["semseg"], harness.outputs(model, x)["semseg"])


def test_frozen_layers_stay_frozen_in_a_saved_model(tmp_path):
    model = harness.tiny_model()
    model.get_layer("conv").trainable = False
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [w.path for w in loaded.trainable_weights] == [w.path for w in model.trainable_weights]


def test_another_process_loads_a_model_after_importing_the_package_alone(tmp_path):
    model = harness.tiny_model()
    model.save(tmp_path / "model.keras")
    x, _ = data(2)
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys, json, keras, numpy, mtl_keras\n"
        "model = keras.saving.load_model(sys.argv[1] + '/model.keras')\n"
        "depth = keras.ops.convert_to_numpy(model(numpy.load(sys.argv[1] + '/x.npy'))['depth'])\n"
        "print(json.dumps([type(model).__name__, float(depth.mean()), float(depth.std())]))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    name, mean, std = json.loads(done.stdout)
    depth = harness.outputs(model, x)["depth"]
    assert name == "MultiTaskModel"
    assert (mean, std) == pytest.approx((depth.mean(), depth.std()), rel=1e-5)


def test_labels_of_a_batch_without_any_leave_the_logs_defined():
    model = harness.tiny_model()
    model.compile("adam")
    x, _ = data(2)
    nothing = {"semseg": np.full((2, *SIZE), 255), "depth": np.zeros((2, *SIZE, 1))}
    logs = model.evaluate(x, nothing, return_dict=True, verbose=0)
    assert logs["loss"] == logs["grader"] == 0
    assert np.isnan(logs["miou"]) and np.isnan(logs["silog"])
    assert not keras.ops.convert_to_numpy(valid_depth(nothing["depth"])[0]).any()


def test_default_losses_are_the_reports():
    model = harness.tiny_model(depth_std=12.0)
    assert isinstance(model.task_losses["semseg"], SegmentationLoss)
    assert model.task_losses["depth"].std == 12.0


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="a second graph is of sizes that are not known")
def test_what_fails_leaves_the_weights_as_they_were():
    """Keras takes them out of the model while JAX works with them, and would put those of earlier calls back."""
    model = harness.tiny_model()
    model.compile("adam")
    x, y = data(2)
    model.fit(x, y, verbose=0)
    model.predict_on_batch(x)
    model.set_weights([value + 1 for value in model.get_weights()])

    def weights():
        return [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]

    before = weights()
    too_short = {**y, "semseg": y["semseg"][:, :5]}
    for fail in (lambda: model.fit(x, too_short, verbose=0), lambda: model.evaluate(x, too_short, verbose=0)):
        with pytest.raises(ValueError, match=r"labels: 'semseg' is \(.*, 5, 48\) for images of 32×48 px; give {"):
            fail()
        keras.tree.map_structure(np.testing.assert_array_equal, weights(), before)
    model.fit(x, y, verbose=0)


def test_what_cannot_be_trained_with_is_named():
    model = harness.tiny_model()
    model.compile(None)
    with pytest.raises(ValueError, match="optimizer: None cannot train"):
        model.fit(*data(2))
    model.compile("adam", loss={"depth": keras.losses.mean_absolute_error})
    with pytest.raises(ValueError, match=r"loss: that of depth is \(\w+, 32, 48\), no scalar; give its mean"):
        model.fit(*data(2), verbose=0)


def test_images_of_a_size_that_does_not_fit_are_refused_before_any_step():
    model = harness.tiny_model()
    model.compile("adam")
    x, y = data(2)
    cut = x[:, 1:]
    uses = [lambda: model.predict(cut), lambda: model.fit(cut, y), lambda: model.evaluate(cut, y)]
    for use in (*uses, lambda: model.fit(x, y, validation_data=(cut, y))):
        with pytest.raises(ValueError, match=r"^the image is 31x48 .* pad it to 32x48, or use predict_images"):
            use()


def test_the_names_of_the_metrics_are_those_of_an_evaluations_results():
    model = harness.tiny_model()
    model.compile("sgd")
    images, labels = harness.images(2, 16, 16), harness.labels(2, 16, 16, num_classes=4)
    expected = model.evaluate(images, labels, verbose=0, return_dict=True)
    values = model.evaluate(images, labels, verbose=0)
    assert dict(zip(model.metrics_names, values, strict=True)) == pytest.approx(expected)
    assert expected.keys() == harness.LOGS
