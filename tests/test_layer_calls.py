"""Layers that are called without what Keras does around them give what they give with it."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
from keras import layers

import zoo
from mtl_keras import MultiTaskModel
from mtl_keras.layers import Block, block
from tests import harness
from tests.test_backends import run_alone


def outputs(model: keras.Model, images: np.ndarray, training: bool) -> dict[str, np.ndarray]:
    return {name: keras.ops.convert_to_numpy(x) for name, x in model(images, training=training).items()}


@pytest.fixture
def directly(monkeypatch) -> Callable[..., dict[str, np.ndarray]]:
    """`outputs` of a model whose layers are called as under PyTorch."""

    def call(model, images, training):
        with monkeypatch.context() as patch:
            patch.setattr("mtl_keras.model.is_eager", lambda: True)
            return outputs(model, images, training)

    return call


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("arch", ["joint", "distillation"])
def test_the_same_to_the_last_bit(precision, directly, arch, policy, training):
    precision(policy)
    model = zoo.build(arch, encoder="resnet18")
    harness.randomize(model)
    images, weights = harness.images(2, 64, 64), model.get_weights()
    found = []
    for call in (outputs, directly):
        model.set_weights(weights)
        found.append((call(model, images, training), model.get_weights()))
    assert_equal(*found)


def assert_equal(actual, expected) -> None:
    keras.tree.map_structure(np.testing.assert_array_equal, actual, expected)


def test_keras_is_left_out(monkeypatch, directly):
    called, keras_call = [], keras.Operation.__call__

    def noting(operation, *arguments, **options):
        called.append(operation)
        return keras_call(operation, *arguments, **options)

    model, images = zoo.build("joint", encoder="resnet18"), harness.images(1, 32, 32)
    monkeypatch.setattr(keras.Operation, "__call__", noting)
    directly(model, images, training=False)
    # The model itself, and the layer that takes images as they are.
    assert [op.name for op in called if isinstance(op, keras.Layer)] == ["joint", "normalization"]


@block
def busy(x, y):
    """A block with whatever Keras has to see to around a layer's call."""
    x = layers.Conv2D(4, 1, activity_regularizer=keras.regularizers.L2(0.1), name="penalised")(x)
    x = layers.Dropout(0.5, seed=0, name="dropout")(x)
    x = layers.Conv2D(4, 1, dtype="float32", name="precise")(x)
    x = keras.ops.concatenate([x, layers.Average(name="average")([y, y])], axis=-1)
    return layers.BatchNormalization(name="norm")(x), keras.ops.max(x, axis=(1, 2), keepdims=True)


def busy_model() -> MultiTaskModel:
    image = keras.Input((None, None, 3), name="image")
    x, peak = busy(image, image, name="busy")
    x = keras.Sequential([layers.Conv2D(5, 1), layers.SpatialDropout2D(0.5, seed=0)], name="sequential")(x + peak)
    x = keras.ops.cast(x, "float32")
    return MultiTaskModel(image, {"semseg": x[..., :4], "depth": x[..., 4:]}, spec=harness.spec())


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_what_keras_sees_to_is_seen_to(precision, directly, policy, training):
    precision(policy)
    images, weights = harness.images(2, 16, 16), busy_model().get_weights()
    found = []
    for call in (outputs, directly):
        # Anew for each: a dropout's seed moves with its calls.
        model = busy_model()
        model.set_weights(weights)
        found.append(
            (call(model, images, training), [*map(keras.ops.convert_to_numpy, model.losses)], model.get_weights())
        )
    _, penalties, _ = found[0]
    assert len(penalties) == 1 and penalties[0] > 0
    assert_equal(*found)


class InFloat32(layers.Layer):
    """Gives another type than it tells."""

    def call(self, x):
        return keras.ops.cast(x, "float32")

    def compute_output_shape(self, shape):
        return shape


class Doubled(layers.Conv2D):
    """Does more around its call than Keras does."""

    def __call__(self, *arguments, **options):
        return 2.0 * super().__call__(*arguments, **options)


class Tripled(Block):
    def call(self, inputs, training=None, mask=None):
        return 3.0 * super().call(inputs, training=training, mask=mask)


@block
def one_of_a_dict(x):
    return {"features": layers.Conv2D(5, 1)(x)}


def strange_model() -> MultiTaskModel:
    """Layers of others, a mask, policies of their own, and whatever has one output in a dict or list."""
    image = keras.Input((None, None, 3), name="image")
    x = layers.Conv2D(6, 1)(InFloat32()(layers.Conv2D(8, 1)(image)))
    x = layers.BatchNormalization()(x, mask=keras.ops.max(image, axis=-1) > 100)
    x = layers.Conv2D(4, 1, dtype="bfloat16")(Doubled(4, 1)(x))
    x = layers.BatchNormalization()(layers.Masking()(layers.ReLU()(x)))
    shape = keras.Input((None, None, 4))
    x = Tripled(shape, layers.Conv2D(4, 1)(shape), name="tripled")(x)
    (x,) = keras.ops.split(x, 1, axis=-1)
    x = keras.Model(shape, {"features": layers.Conv2D(6, 1)(shape)}, name="model_of_a_dict")(x)["features"]
    x = one_of_a_dict(x, name="block_of_a_dict")["features"]
    x = keras.ops.cast(x, "float32")
    return MultiTaskModel(image, {"semseg": x[..., :4], "depth": x[..., 4:]}, spec=harness.spec())


@pytest.mark.filterwarnings("ignore:.*was passed an input with a mask")
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_what_is_not_known_is_left_to_keras(precision, directly, policy, training):
    precision(policy)
    model, images = strange_model(), harness.images(2, 16, 16)
    weights, found = model.get_weights(), []
    for call in (outputs, directly):
        model.set_weights(weights)
        found.append((call(model, images, training), model.get_weights()))
    assert_equal(*found)


def test_policies_may_change_and_calls_be_replaced(directly):
    model, images = zoo.build("joint", encoder="resnet18"), harness.images(1, 32, 32)
    encoder = model.get_layer("encoder")
    directly(model, images, training=False)
    encoder.get_layer("conv1").dtype_policy = "mixed_bfloat16"
    assert_equal(*(call(model, images, training=False) for call in (outputs, directly)))
    call = encoder.call
    encoder.call = lambda *arguments, **options: keras.tree.map_structure(
        lambda x: 0.0 * x, call(*arguments, **options)
    )
    nothing = directly(model, images, training=False)
    assert_equal(nothing, outputs(model, images, training=False))
    assert np.ptp(nothing["semseg"][..., 0]) == 0


def test_under_pytorch_a_model_may_be_called_without_keras_around_it():
    run_alone(
        "torch",
        """
import keras, numpy as np, zoo
from tests import harness

keras.config.set_dtype_policy("mixed_bfloat16")
model, images = zoo.build("joint", encoder="resnet18"), keras.ops.convert_to_tensor(harness.images(1, 32, 32))
expected = model(images, training=False)
values = ([v.value for v in variables] for variables in (model.trainable_variables, model.non_trainable_variables))
for found in (model.call(images, training=False), model.stateless_call(*values, images, training=False)[0]):
    for name, value in expected.items():
        np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(x.detach()) for x in (found[name], value)))
""",
    )


def test_under_pytorch_hooks_are_told_and_faults_found():
    run_alone(
        "torch",
        """
import numpy as np, torch
from tests import harness
from mtl_keras.faults import where_not_finite

model, images, labels = harness.tiny_model(), harness.images(2, 16, 16), harness.labels(2, 16, 16, num_classes=4)
conv, told = model.get_layer("conv"), []
own = conv.register_forward_hook(lambda layer, inputs, output: told.append(output.shape))
model(images, training=True)
assert told == [(2, 16, 16, 8)], told
own.remove()
everybody = torch.nn.modules.module.register_module_forward_hook(lambda layer, *_: told.append(layer.name))
model(images, training=True)
everybody.remove()
assert {"conv", "norm", "relu", "predict"} <= set(told), told
count = len(told)
model(images, training=True)
assert len(told) == count

assert where_not_finite(model, images, labels) is None
model.get_layer("norm").gamma.assign(np.full(8, np.inf))
assert where_not_finite(model, images, labels) == "layer norm"
""",
    )
