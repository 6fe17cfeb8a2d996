"""The optimizers against PyTorch's, step by step on the same gradients."""

import keras
import numpy as np
import pytest
import torch

from mtl_keras import SGD, Adam, PolyDecay
from mtl_keras.backend import in_order, lay_out_kernels
from mtl_keras.layers import Conv2D
from mtl_keras.optimizers import AdamW

SHAPES = [(5, 4), (7,), ()]
RATES = [1e-2, 1e-2, 3e-3, 3e-3, 2e-2, 1e-4, 1e-4, 1e-2]


def keras_run(optimizer, start, gradients, rates):
    variables = [keras.Variable(value.astype("float32")) for value in start]
    for rate, step in zip(rates, gradients, strict=True):
        optimizer.learning_rate = rate
        optimizer.apply([keras.ops.convert_to_tensor(g.astype("float32")) for g in step], variables)
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def torch_run(make, start, gradients, rates):
    parameters = [torch.nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in start]
    optimizer = make(parameters)
    for rate, step in zip(rates, gradients, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
    return [parameter.detach().numpy() for parameter in parameters]


CASES = {
    "SGD": (SGD, torch.optim.SGD, {"momentum": 0.9}),
    "SGD without momentum": (SGD, torch.optim.SGD, {"momentum": 0.0}),
    "Adam": (Adam, torch.optim.Adam, {}),
    "AdamW": (AdamW, torch.optim.AdamW, {}),
}


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-6], ids=lambda scale: f"gradients of {scale}")
@pytest.mark.parametrize("weight_decay", [0.0, 1e-4, 0.1])
@pytest.mark.parametrize("case", CASES)
def test_steps_equal_torch(case, weight_decay, scale):
    ours, theirs, options = CASES[case]
    rng = np.random.default_rng(0)
    # Small beside their steps, so that the steps' digits are not lost in the sum.
    start = [rng.normal(0, 0.01, shape).astype("float32") for shape in SHAPES]
    gradients = [[scale * rng.normal(size=shape).astype("float32") for shape in SHAPES] for _ in RATES]
    options = {**options, "weight_decay": weight_decay}
    actual = keras_run(ours(RATES[0], **options), start, gradients, RATES)
    expected = torch_run(lambda parameters: theirs(parameters, lr=RATES[0], **options), start, gradients, RATES)
    for first, a, e in zip(start, actual, expected, strict=True):
        # Against the greater of where it began and where it ended: a weight on its way through zero has fewer digits.
        assert np.abs(a - e).max() < 1e-6 * max(np.abs(first).max(), np.abs(e).max())


def test_constant_small_gradients_move_a_weight_as_far_as_torch():
    """Where Keras' own Adam moves a weight 0.24 times as far at the first step."""
    moved = {}
    for optimizer in (Adam(0.1), keras.optimizers.Adam(0.1, epsilon=1e-7)):
        (weight,) = keras_run(optimizer, [np.zeros(())], [[np.array(1e-6)]], [0.1])
        moved[type(optimizer).__module__.split(".")[0]] = -float(weight)
    assert moved["mtl_keras"] == pytest.approx(0.1 / 1.01, rel=1e-5)
    assert moved["keras"] / moved["mtl_keras"] == pytest.approx(0.24, abs=0.01)


def test_poly_decay_steps_once_an_epoch_like_torch():
    epochs, steps = 7, 3
    schedule = PolyDecay(0.01, epochs, steps)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=0.01)
    poly = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: max((1 - epoch / epochs) ** 0.9, 1e-6))
    for epoch in range(epochs):
        for step in range(steps):
            assert float(schedule(epoch * steps + step)) == pytest.approx(poly.get_last_lr()[0], rel=1e-5)
        optimizer.step()
        poly.step()
    assert float(schedule(epochs * steps)) == pytest.approx(1e-8)
    assert float(schedule(100 * epochs * steps)) == pytest.approx(1e-8)


@pytest.mark.parametrize("optimizer", [SGD(0.3, momentum=0.8, weight_decay=1e-4), Adam(0.3, weight_decay=1e-4)])
def test_config_round_trip(optimizer):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert type(copy) is type(optimizer)
    start, gradients = [np.ones(3)], [[np.arange(3.0)], [np.ones(3)]]
    for actual, expected in zip(
        keras_run(copy, start, gradients, [0.3, 0.1]), keras_run(optimizer, start, gradients, [0.3, 0.1]), strict=True
    ):
        assert np.array_equal(actual, expected)


def test_schedule_round_trip():
    schedule = PolyDecay(0.02, 5, 10, power=0.5, floor=1e-3)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert [float(copy(step)) for step in range(0, 60, 7)] == [float(schedule(step)) for step in range(0, 60, 7)]


@pytest.mark.parametrize("make, option", [(SGD, "nesterov"), (Adam, "amsgrad")])
def test_what_is_not_supported_is_refused(make, option):
    with pytest.raises(ValueError, match=f"{option}: not supported"):
        make(0.1, **{option: True})


def test_parameters_that_would_not_be_decayed_are_refused():
    with pytest.raises(ValueError, match="exclude_from_weight_decay: not supported"):
        Adam(weight_decay=1e-4).exclude_from_weight_decay(var_names=["bias"])


def test_defaults_are_the_documented_ones():
    assert (float(Adam().learning_rate), Adam().epsilon, Adam().decay) == (pytest.approx(1e-4), 1e-8, 0.0)
    assert (AdamW().decay, SGD().momentum) == (0.01, 0.9)


def test_gradients_may_lie_in_memory_as_they_like():
    rng = np.random.default_rng(0)
    start, gradient = rng.normal(size=(2, 3, 4)).astype("float32")
    results = []
    for lay in (lambda g: keras.ops.transpose(keras.ops.convert_to_tensor(g.T.copy())), keras.ops.convert_to_tensor):
        variable = keras.Variable(start)
        optimizer = Adam(0.1)
        for _ in range(2):
            optimizer.apply([lay(gradient)], [variable])
        results.append(keras.ops.convert_to_numpy(variable))
    np.testing.assert_array_equal(*results)


def test_kernels_may_be_laid_out_for_the_backend_between_steps():
    """As a model that goes on with another's moments has it; the values are the same to the last bit."""
    rng = np.random.default_rng(0)
    start, *gradients = rng.normal(size=(4, 3, 3, 5, 7)).astype("float32")
    results = []
    for laid_out in (False, True):
        model = keras.Sequential([keras.Input((8, 8, 5)), Conv2D(7, 3, use_bias=False)])
        model.set_weights([start])
        optimizer = Adam(0.1, weight_decay=0.1)
        for step, gradient in enumerate(gradients):
            if laid_out and step == 1:
                lay_out_kernels(model)
            optimizer.apply([keras.ops.convert_to_tensor(gradient)], model.trainable_variables)
        results.append(keras.ops.convert_to_numpy(model.trainable_variables[0]))
    np.testing.assert_array_equal(*results)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="the other backends update in place by themselves")
@pytest.mark.parametrize("platform, barriers", [("cpu", 0), ("cuda", 2)])
def test_a_gpu_has_gradients_in_order_before_an_update(platform, barriers):
    import jax

    gradients = [np.arange(6, dtype="float32").reshape(2, 3), np.ones(4, "float32")]
    traced = jax.jit(in_order).trace(gradients)
    assert traced.lower(lowering_platforms=(platform,)).as_text().count("optimization_barrier") == barriers
    for ours, given in zip(in_order(gradients), gradients, strict=True):
        np.testing.assert_array_equal(ours, given)
