"""Whole topologies on inputs of the worst kind: losses, metrics, gradients and what a step leaves stay finite."""

import keras
import numpy as np
import pytest

import zoo
from mtl_keras import SGD
from tests import harness

SIZE = (2, 64, 64)
POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")

BLACK = np.zeros((*SIZE, 3), "float32")
NOISE = harness.images(*SIZE)
LABELS = harness.labels(*SIZE)
INPUTS = {
    "black": (BLACK, LABELS),
    "white": (BLACK + 255, LABELS),
    "nothing valid": (NOISE, {"semseg": np.full(SIZE, 255), "depth": np.zeros((*SIZE, 1), "float32")}),
    "one valid pixel": (
        NOISE,
        {
            "semseg": np.pad([[[3]]], [(0, 1), (0, 63), (0, 63)], constant_values=255),
            "depth": np.pad(np.full((1, 1, 1, 1), 4.0, "float32"), [(0, 1), (0, 63), (0, 63), (0, 0)]),
        },
    ),
    "constant depth": (NOISE, {**LABELS, "depth": np.full((*SIZE, 1), 300.0, "float32")}),
    "black, nothing valid": (BLACK, {"semseg": np.full(SIZE, 255), "depth": np.zeros((*SIZE, 1), "float32")}),
}


@pytest.fixture(scope="module", params=POLICIES)
def model(request):
    """Distillation has every part that the others have. Its predictors are saturated: logits of ±10⁴."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    keras.utils.set_random_seed(0)
    model = zoo.build("distillation", encoder="resnet18")
    keras.config.set_dtype_policy(before)
    harness.randomize(model)
    for name in ("semseg", "semseg_final"):
        logits = model.get_layer(f"{name}_predictor").get_layer("predict")
        logits.bias.assign(np.where(np.arange(19) % 2, 1e4, -1e4))
    # Unscaled, since a scaled loss skips a step whose gradients are not finite.
    model.compile(SGD(1e-3, momentum=0.0), auto_scale_loss=False)
    return model


@pytest.mark.parametrize("name", INPUTS)
def test_a_step_stays_finite(model, name):
    start = model.get_weights()
    images, labels = INPUTS[name]
    logs = model.train_on_batch(images, labels, return_dict=True)
    after = model.get_weights()
    model.set_weights(start)
    # A task without any label has no metric, and every other log a value.
    undefined = {"miou": (labels["semseg"] == 255).all(), "silog": not labels["depth"].any()}
    assert all(np.isnan(value) if undefined.get(key) else np.isfinite(value) for key, value in logs.items())
    assert all(np.isfinite(weight).all() for weight in after)
    moved = any(not np.array_equal(*pair) for pair in zip(start, after, strict=True))
    assert moved
    if not labels["depth"].any():
        assert logs["loss"] == 0
        trainable = {id(variable) for variable in model.trainable_variables}
        for variable, before, value in zip(model.weights, start, after, strict=True):
            if id(variable) in trainable:
                np.testing.assert_array_equal(value, before, err_msg=variable.path)
