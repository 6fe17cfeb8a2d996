"""Networks of users' own: what their layers add to the loss counts, and what cannot be trained is refused."""

import concurrent.futures

import keras
import numpy as np
import pytest
from keras import layers

from mtl_keras import Adam, MultiTaskModel, PixelNormalization
from tests import harness

SIZE = (32, 48)


class Added(layers.Layer):
    """Adds the mean square of what goes through it to the loss."""

    def call(self, inputs):
        self.add_loss(3.0 * keras.ops.mean(keras.ops.square(inputs)))
        return inputs


def network(*, added=None, **options) -> MultiTaskModel:
    image = keras.Input((None, None, 3), name="image")
    features = layers.Conv2D(8, 3, padding="same", name="conv", **options)(layers.Rescaling(1 / 255)(image))
    if added:
        features = added(features)
    outputs = {name: layers.Conv2D(width, 1, name=name)(features) for name, width in (("semseg", 4), ("depth", 1))}
    return MultiTaskModel(image, outputs, spec=harness.spec())


def mean_square(model: MultiTaskModel, images) -> np.ndarray:
    """The mean over everything but the batch of the squared features of the first convolution."""
    features = keras.Model(model.inputs, model.get_layer("conv").output).predict(images, verbose=0)
    return np.mean(np.square(features, dtype="float64"), axis=(1, 2, 3))


@pytest.mark.parametrize("kind", ["of a kernel", "of an activity", "of a layer"])
def test_what_layers_add_to_the_loss_is_in_the_logs(kind):
    options = {
        "of a kernel": {"kernel_regularizer": keras.regularizers.L2(0.5)},
        "of an activity": {"activity_regularizer": keras.regularizers.L2(0.5)},
        "of a layer": {"added": Added()},
    }[kind]
    model, x, y = network(**options), harness.images(4, *SIZE), harness.labels(4, *SIZE, num_classes=4)
    model.compile(keras.optimizers.SGD(0.0))
    squares, kernel = mean_square(model, x), keras.ops.convert_to_numpy(model.get_layer("conv").kernel)
    added = {
        "of a kernel": 0.5 * np.sum(np.square(kernel)),
        "of an activity": 0.5 * 8 * SIZE[0] * SIZE[1] * squares.mean(),
        "of a layer": 3.0 * squares.mean(),
    }[kind]
    logs = model.fit(x, y, batch_size=2, validation_data=(x, y), validation_batch_size=2, verbose=0).history
    assert set(logs) == harness.LOGS | {f"val_{name}" for name in harness.LOGS}
    for prefix in ("", "val_"):
        tasks = 0.5 * logs[f"{prefix}semseg_loss"][0] + 0.5 * logs[f"{prefix}depth_loss"][0]
        assert logs[f"{prefix}loss"][0] - tasks == pytest.approx(added, rel=1e-4, abs=1e-5)
    assert len(model.evaluate(x, y, verbose=0)) == len(model.metrics_names)


def test_without_them_the_loss_is_the_tasks_own():
    model, x, y = network(), harness.images(2, *SIZE), harness.labels(2, *SIZE, num_classes=4)
    model.compile()
    logs = model.evaluate(x, y, verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(0.5 * logs["semseg_loss"] + 0.5 * logs["depth_loss"], rel=1e-6)


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ({"semseg": 4}, "outputs: give a dict with predictions of semseg and depth"),
        ({"semseg": 4, "depth": 2}, "depth: 2 channels for depth, which has one"),
        ({"semseg": 4, "depth": 1, "semseg_initial": 2}, "semseg_initial: 2 channels for the 4 classes of spec 'test'"),
        ({"semseg": 4, "depth": 1, "normals": 3}, "outputs: 'normals' is of no task; name it semseg or depth"),
    ],
)
def test_outputs_that_cannot_be_trained_are_refused(channels, message):
    image = keras.Input((None, None, 3))
    outputs = {name: layers.Conv2D(width, 1)(image) for name, width in channels.items()}
    with pytest.raises(ValueError, match=message):
        MultiTaskModel(image, outputs, spec=harness.spec())


def test_a_list_of_outputs_and_a_spec_that_is_none_are_refused():
    image = keras.Input((None, None, 3))
    outputs = {"semseg": layers.Conv2D(4, 1)(image), "depth": layers.Conv2D(1, 1)(image)}
    with pytest.raises(ValueError, match="outputs: give a dict"):
        MultiTaskModel(image, list(outputs.values()), spec=harness.spec())
    with pytest.raises(ValueError, match="spec: 4 is no DataSpec"):
        MultiTaskModel(image, outputs, spec=4)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_predictions_of_half_precision_are_refused(precision, policy):
    precision(policy)
    with pytest.raises(ValueError, match=r"semseg: b?float16 is too coarse .*; give the last layer dtype='float32'"):
        network()


@pytest.mark.parametrize("given", [lambda image: [image], lambda image: {"image": image}], ids=["list", "dict"])
def test_inputs_in_a_list_or_a_dict_are_cloned_and_saved(given, tmp_path):
    plain, x = network(), harness.images(2, *SIZE)
    model = MultiTaskModel(given(plain.inputs[0]), plain.output, spec=plain.spec)
    model.save(tmp_path / "model.keras")
    clone, loaded = keras.models.clone_model(model), keras.saving.load_model(tmp_path / "model.keras")
    clone.set_weights(model.get_weights())
    expected = model.predict({"image": x}, verbose=0)
    for copy, images in ((clone, {"image": x}), (loaded, x)):
        assert type(copy) is MultiTaskModel and copy.spec == model.spec
        np.testing.assert_allclose(copy.predict(images, verbose=0)["depth"], expected["depth"], rtol=1e-6)


def test_a_clone_keeps_its_policy(precision):
    precision("mixed_float16")
    model = harness.tiny_model()
    model.compile("sgd")
    precision("float32")
    clone = keras.models.clone_model(model)
    assert clone.dtype_policy.name == "mixed_float16"
    assert type(clone.optimizer) is type(model.optimizer) is keras.optimizers.LossScaleOptimizer


@pytest.mark.parametrize("asked", ["auto", True, False])
def test_what_to_compile_is_kept_as_it_was_asked_for(asked, tmp_path):
    """Not as this backend understands "auto": another that loads the model has its own way."""
    model = harness.tiny_model()
    model.compile("sgd", **({} if asked == "auto" else {"jit_compile": asked}))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert model.get_compile_config()["jit_compile"] == loaded.get_compile_config()["jit_compile"] == asked


def test_a_model_compiled_without_an_optimizer_is_loaded_as_it_was(tmp_path):
    model, x, y = harness.tiny_model(), harness.images(2, *SIZE), harness.labels(2, *SIZE, num_classes=4)
    model.compile(None)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.compiled and loaded.optimizer is None
    assert loaded.evaluate(x, y, verbose=0) == pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-5, nan_ok=True)


def test_images_may_have_other_channels_than_three():
    """As a camera with infrared has: each channel is normalized, and both training and prediction take them."""
    image = keras.Input((None, None, 4), name="image")
    normalized = PixelNormalization((10.0, 20.0, 30.0, 40.0), (2.0,) * 4, 2)(image)
    outputs = {name: layers.Conv2D(width, 1)(normalized) for name, width in (("semseg", 4), ("depth", 1))}
    model = MultiTaskModel(image, outputs, spec=harness.spec())
    x = np.concatenate([harness.images(2, *SIZE), np.full((2, *SIZE, 1), 50.0, "float32")], axis=-1)
    y = harness.labels(2, *SIZE, num_classes=4)
    features = keras.Model(model.inputs, normalized).predict(x, verbose=0)
    np.testing.assert_allclose(features, (x - [10, 20, 30, 40]) / 2, rtol=1e-5, atol=1e-4)
    model.compile(keras.optimizers.SGD(1e-6))
    assert np.isfinite(model.fit(x, y, verbose=0).history["loss"][0])
    assert model.predict(x, verbose=0)["depth"].shape == (2, *SIZE, 1)
    with pytest.raises(ValueError, match=r"this model takes \(batch, height, width, 4\)"):
        model.predict(x[..., :3], verbose=0)


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_channels_are_refused(channels):
    model = harness.tiny_model()
    images = np.zeros((1, *SIZE, channels), "uint8")
    with pytest.raises(ValueError, match=rf"the images are \(1, 32, 48, {channels}\), but this model takes .*, 3\)"):
        model.predict(images, verbose=0)
    with pytest.raises(ValueError, match="but this model takes"):
        model.predict(np.zeros((1, 3, *SIZE), "uint8"), verbose=0)


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_an_export_of_any_size_that_keras_cannot_make_names_the_way_out(format, tmp_path):
    with pytest.raises(ValueError, match=f"traces one size; give it, .*trainers.export FILE.keras --format={format}"):
        harness.tiny_model().export(tmp_path / "model", format=format)
    assert not any(tmp_path.iterdir())


def test_batches_without_end_or_number_need_a_number_of_steps():
    class Endless(keras.utils.PyDataset):
        num_batches = None

        def __getitem__(self, index):
            return harness.images(2, *SIZE), harness.labels(2, *SIZE, num_classes=4)

    model = harness.tiny_model()
    model.compile()
    with pytest.raises(ValueError, match="steps: the batches of Endless have no end; say how many to take"):
        model.fit(Endless(), verbose=0)
    assert model.evaluate(Endless(), steps=1, verbose=0, return_dict=True)["loss"] > 0


def test_arguments_may_be_given_in_the_order_that_keras_has_them_in():
    model, x, y = harness.tiny_model(), harness.images(4, *SIZE), harness.labels(4, *SIZE, num_classes=4)
    model.compile()
    logs = model.fit(x, y, 2, 1, 0, None, 0.0, (x, y), False, None, None, 0, 1, 2).history
    assert set(logs) == harness.LOGS | {f"val_{name}" for name in harness.LOGS}
    assert int(model.optimizer.iterations) == 1
    assert model.evaluate(x, y, 2, 0, None, None, None, True).keys() == harness.LOGS
    assert len(model.predict(x, 2, 0, 1)["depth"]) == 2
    with pytest.raises(TypeError, match="epoch"):
        model.fit(x, y, epoch=3)


class Tempered(MultiTaskModel):
    """A model with an argument of its own."""

    def __init__(self, inputs, outputs, name=None, *, temperature=1.0, **options):
        super().__init__(inputs, outputs, name, **options)
        self.temperature = temperature

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}


def test_a_config_keeps_a_subclass_own_arguments_and_what_is_frozen():
    plain = network()
    model = Tempered(plain.inputs[0], plain.output, spec=plain.spec, temperature=3.0)
    model.get_layer("conv").trainable = False
    again = Tempered.from_config(model.get_config())
    assert again.temperature == 3.0 and again.trainable
    assert len(again.trainable_variables) == len(model.trainable_variables) == 4
    model.trainable = False
    model.get_layer("conv").trainable = True
    again = Tempered.from_config(model.get_config())
    assert not again.trainable and not again.trainable_variables


def test_steps_are_not_left_out_where_the_loss_is_scaled(precision):
    with pytest.raises(ValueError, match="skip_non_finite: does not go with a scaled loss"):
        network().compile(keras.optimizers.LossScaleOptimizer(Adam(skip_non_finite=True)))
    precision("mixed_float16")
    with pytest.raises(ValueError, match="skip_non_finite: does not go with a scaled loss"):
        harness.tiny_model().compile(Adam(skip_non_finite=True))
    harness.tiny_model().compile(Adam(skip_non_finite=True), auto_scale_loss=False)


def test_a_network_around_another_has_its_stride():
    inner = harness.tiny_model()
    image = keras.Input((None, None, 3), name="image")
    outer = MultiTaskModel(image, {name: inner(image)[name] for name in ("semseg", "depth")}, spec=inner.spec)
    assert (outer.output_stride, outer.padding_color) == (inner.output_stride, inner.padding_color)
    assert outer.predict_images(np.zeros((33, 47, 3), "uint8")).depth.shape == (33, 47)


class Looks(keras.callbacks.Callback):
    def __init__(self, image):
        super().__init__()
        self.image, self.shapes = image, []

    def on_train_batch_end(self, batch, logs=None):
        self.shapes.append(self.model.predict_images(self.image).depth.shape)


def test_images_are_predicted_in_the_middle_of_an_epoch():
    x, y, histories = harness.images(4, *SIZE), harness.labels(4, *SIZE, num_classes=4), []
    looks = Looks(x[0])
    weights = network().get_weights()
    for callbacks in ([], [looks]):
        model = network()
        model.set_weights(weights)
        model.compile(keras.optimizers.SGD(0.01))
        histories.append(model.fit(x, y, batch_size=2, epochs=2, verbose=0, shuffle=False, callbacks=callbacks).history)
    assert looks.shapes == [SIZE] * 4
    assert histories[0] == histories[1]


def test_images_are_predicted_from_several_threads():
    model, x = network(), harness.images(8, *SIZE)
    expected = [model.predict_images(image).depth for image in x]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: model.predict_images(image).depth, x))
        whole = list(pool.map(lambda images: model.predict(images, verbose=0)["depth"], [x, x]))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(*whole)
