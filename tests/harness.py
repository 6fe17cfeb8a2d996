"""What every model of the zoo must do, whatever its topology and encoder.

The test of a new topology is a class that says what is its own:

```python
class TestJoint(harness.ModelTests):
    arch = "joint"
    parameters = 26_716_084
```
"""

from typing import Any, ClassVar

import keras
import numpy as np
import pytest
from keras import layers

import zoo
from mtl_keras import DataSpec, MultiTaskModel, PixelNormalization
from mtl_keras.heads import Metres
from mtl_keras.optimizers import Adam

LOGS = {"loss", "semseg_loss", "depth_loss", "miou", "silog", "grader"}


def images(batch: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise on a coarse pattern, RGB 0–255: deep features of plain noise are nearly the same everywhere."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (batch, height // 8, width // 8, 3)).repeat(8, axis=1).repeat(8, axis=2)
    return (0.7 * coarse + 0.3 * rng.uniform(0, 255, coarse.shape)).astype("float32")


def labels(batch: int, height: int, width: int, num_classes: int = 19, seed: int = 0) -> dict[str, np.ndarray]:
    """Random squares of 16×16, a tenth of the pixels without a class and a fifth without a depth."""
    rng = np.random.default_rng(seed)
    squares = (batch, height // 16, width // 16)
    semseg = rng.integers(0, num_classes, squares).repeat(16, axis=1).repeat(16, axis=2)
    semseg[rng.random(semseg.shape) < 0.1] = 255
    depth = np.exp(rng.uniform(np.log(4), np.log(300), squares)).repeat(16, axis=1).repeat(16, axis=2)[..., None]
    depth[rng.random(depth.shape) < 0.2] = 0
    return {"semseg": semseg.astype("int32"), "depth": depth.astype("float32")}


def spec(num_classes: int = 4, **facts: Any) -> DataSpec:
    """A dataset of few classes."""
    names = tuple(f"class {index}" for index in range(num_classes))
    return DataSpec("test", classes=names, palette=((0, 0, 0),) * num_classes, **facts)


def tiny_model(num_classes: int = 4, **facts: Any) -> MultiTaskModel:
    """The least model that is a `MultiTaskModel`: one convolution with batch normalisation, one that predicts."""
    facts = spec(num_classes, **facts)
    image = keras.Input((None, None, 3), name="image")
    x = PixelNormalization((127.5,) * 3, (64.0,) * 3, 2, name="normalization")(image)
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv")(x)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
    x = layers.Conv2D(num_classes + 1, 1, dtype="float32", name="predict")(x)
    depth = Metres(facts.depth_mean, facts.depth_std, name="metres")(x[..., -1:])
    return MultiTaskModel(image, {"semseg": x[..., :-1], "depth": depth}, name="tiny", spec=facts)


def randomize(model: keras.Model, seed: int = 0) -> None:
    """Gives everything that starts at a special value (batch normalisation, biases, gates) one that shows mistakes."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if variable.name == "gamma":
            # Well below 1, or the residual sums of a hundred layers leave float16.
            variable.assign(rng.uniform(0.3, 0.8, variable.shape))
        elif variable.name == "moving_variance":
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif variable.name in ("beta", "moving_mean", "bias"):
            variable.assign(rng.normal(0, 0.2, variable.shape))
        elif "attention/kernel" in variable.path:
            variable.assign(rng.normal(0, 0.05, variable.shape))


def relative_error(actual, expected) -> float:
    """The greatest difference, relative to the greatest expected magnitude."""
    actual, expected = np.asarray(actual, "float64"), np.asarray(expected, "float64")
    assert actual.shape == expected.shape
    return float(np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-30))


def outputs(model: keras.Model, image: np.ndarray) -> dict[str, np.ndarray]:
    """What the model says of an image.

    Called eagerly: JAX then compiles each operation once for all tests, where `predict` compiles every model anew.
    """
    return {name: keras.ops.convert_to_numpy(tensor) for name, tensor in model(image).items()}


class Offset(layers.Layer):
    """Adds a weight to each value; its gradient is that of the values."""

    def build(self, shape):
        self.offset = self.add_weight(shape=shape, initializer="zeros")

    def call(self, x):
        return x + self.offset


class ModelTests:
    """Tests that a class inherits. `parameters` is the number of trainable ones, and comes from elsewhere."""

    arch: ClassVar[str]
    parameters: ClassVar[int]
    parameters_of: ClassVar[dict[str, Any]] = {"encoder": "resnet34"}
    options: ClassVar[dict[str, Any]] = {"encoder": "resnet18"}
    predictions: ClassVar[set[str]] = {"semseg", "depth"}
    stride: ClassVar[int] = 16

    @classmethod
    def build(cls) -> MultiTaskModel:
        model = zoo.build(cls.arch, **cls.options)
        randomize(model)
        return model

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls) -> MultiTaskModel:
        keras.utils.set_random_seed(0)
        return cls.build()

    def test_number_of_trainable_parameters(self):
        model = zoo.build(self.arch, **{**self.options, **self.parameters_of})
        assert sum(np.prod(weight.shape) for weight in model.trainable_weights) == self.parameters

    def test_shapes_at_any_size_and_batch(self, model):
        for batch, height, width in ((1, 64, 64), (3, 2 * self.stride, 3 * self.stride)):
            predictions = outputs(model, images(batch, height, width))
            assert set(predictions) == self.predictions
            for name, prediction in predictions.items():
                channels = model.spec.num_classes if name.startswith("semseg") else 1
                assert prediction.shape == (batch, height, width, channels)

    def test_wrong_size_names_the_next_one_that_fits(self, model):
        height, width = 2 * self.stride, 3 * self.stride
        message = rf"is {height}x{width - 1} .* multiples of {self.stride}: pad it to {height}x{width}"
        with pytest.raises(ValueError, match=message):
            model(np.zeros((1, height, width - 1, 3), "float32"))

    def test_an_image_is_predicted_alone_as_in_a_batch(self, model):
        batch = images(3, 64, 64)
        together, alone = outputs(model, batch), outputs(model, batch[:1])
        for name in self.predictions:
            assert relative_error(together[name][:1], alone[name]) < 1e-5

    def test_config_round_trip(self, model):
        copy = type(model).from_config(model.get_config())
        copy.set_weights(model.get_weights())
        assert copy.spec == model.spec and copy.architecture == model.architecture
        self.assert_same_predictions(copy, model)

    def test_saved_and_loaded(self, model, tmp_path):
        model.save(tmp_path / "model.keras")
        self.assert_same_predictions(keras.saving.load_model(tmp_path / "model.keras"), model)

    def assert_same_predictions(self, actual, expected):
        image = images(1, 64, 64)
        actual, expected = outputs(actual, image), outputs(expected, image)
        for name in self.predictions:
            assert relative_error(actual[name], expected[name]) < 1e-6

    @pytest.mark.parametrize("policy, tolerance", [("mixed_float16", 0.02), ("mixed_bfloat16", 0.1)])
    def test_half_precision(self, model, precision, policy, tolerance):
        precision(policy)
        half = zoo.build(self.arch, **self.options)
        half.set_weights(model.get_weights())
        image = images(1, 64, 64)
        predictions, expected = outputs(half, image), outputs(model, image)
        assert {value.dtype for value in predictions.values()} == {np.dtype("float32")}
        for name in self.predictions:
            assert relative_error(predictions[name], expected[name]) < tolerance

    def test_learns_with_every_weight(self):
        """One image repeated: the loss falls, and no trainable weight is left out of it."""
        model = self.build()
        before = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]
        x, y = images(2, 64, 64), labels(2, 64, 64)
        model.compile(Adam(1e-3))
        history = model.fit(x, y, batch_size=2, epochs=6, verbose=0).history
        assert set(history) == LOGS
        assert np.isfinite(history["loss"]).all()
        assert history["loss"][-1] < 0.9 * history["loss"][0]
        unmoved = [
            weight.path
            for weight, value in zip(model.trainable_weights, before, strict=True)
            if np.array_equal(keras.ops.convert_to_numpy(weight), value)
        ]
        assert unmoved == []
