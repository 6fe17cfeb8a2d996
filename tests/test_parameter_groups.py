"""Learning-rate factors and freezing for a part of the parameters, against PyTorch's parameter groups."""

import keras
import numpy as np
import pytest

from mtl_keras.checkpoints import restore_training_state, training_state, weights_of
from mtl_keras.optimizers import SGD, Adam, AdamW, Group, PolyDecay
from tests.harness import images, labels, tiny_model

STEPS, FROZEN, SCALE, RATE, DECAY = 8, 3, 0.1, 0.05, 0.02
OPTIMIZERS = {"SGD": SGD, "Adam": Adam, "AdamW": AdamW}


def gradients() -> np.ndarray:
    """For every step one for the encoder's parameter and one for the head's."""
    return np.random.default_rng(1).normal(0, 1, (STEPS, 2, 5)).astype("float32")


def ours(name: str, group: Group) -> list[np.ndarray]:
    parameters = [
        keras.Variable(np.linspace(-1, 1, 5), dtype="float32", name=part) for part in ("encoder_kernel", "head_kernel")
    ]
    optimizer = OPTIMIZERS[name](RATE, weight_decay=DECAY, groups={"encoder": group})
    optimizer.build(parameters)
    for pair in gradients():
        optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in pair], parameters)
    return [keras.ops.convert_to_numpy(parameter) for parameter in parameters]


def torchs(torch, name: str, group: Group) -> list[np.ndarray]:
    parameters = [torch.nn.Parameter(torch.linspace(-1, 1, 5)) for _ in range(2)]
    options = {"momentum": 0.9} if name == "SGD" else {}
    groups = [{"params": parameters[:1], "lr": RATE * group.scale}, {"params": parameters[1:]}]
    optimizer = getattr(torch.optim, name)(groups, lr=RATE, weight_decay=DECAY, **options)
    for step, pair in enumerate(gradients()):
        for parameter, gradient in zip(parameters, pair, strict=True):
            parameter.grad = torch.from_numpy(gradient)
        if step < group.frozen_steps:
            parameters[0].grad = None
        optimizer.step()
    return [parameter.detach().numpy() for parameter in parameters]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("group", [Group(), Group(SCALE), Group(frozen_steps=FROZEN), Group(SCALE, FROZEN)])
def test_as_torch_has_them(name, group):
    torch = pytest.importorskip("torch")
    for actual, expected in zip(ours(name, group), torchs(torch, name, group), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6)


def test_sgd_in_closed_form():
    """Plain SGD without decay: the sum of the gradients behind the frozen steps, times the rate and the factor."""
    parameter = keras.Variable(np.ones(5), dtype="float32", name="encoder_kernel")
    optimizer = SGD(RATE, momentum=0.0, groups={"encoder": Group(SCALE, FROZEN)})
    optimizer.build([parameter])
    path = gradients()[:, 0]
    for step, gradient in enumerate(path):
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [parameter])
        expected = 1 - RATE * SCALE * path[FROZEN : step + 1].sum(axis=0)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(parameter), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_groups_are_part_of_the_config(name):
    groups = {"encoder/": Group(SCALE, FROZEN), "heads/": Group(2.0)}
    optimizer = OPTIMIZERS[name](PolyDecay(RATE, 4, 2), weight_decay=DECAY, groups=groups)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert copy.groups == groups and copy.get_config() == optimizer.get_config()


def test_a_group_without_parameters_is_an_error():
    optimizer = SGD(groups={"encodr/": Group(SCALE)})
    with pytest.raises(ValueError, match="no trainable parameter's path begins with 'encodr/'"):
        optimizer.build([keras.Variable(np.ones(5), dtype="float32", name="encoder_kernel")])


@pytest.mark.parametrize("stop", [1, 4])
def test_frozen_parameters_do_not_move_and_training_resumes_exactly(stop):
    """Stopped while the convolution is frozen, or after: the same weights as without a stop."""

    def start():
        keras.utils.set_random_seed(0)
        model = tiny_model()
        optimizer = Adam(PolyDecay(0.01, 3, 2), weight_decay=DECAY, groups={"conv/": Group(SCALE, 3)}, name="adam")
        model.compile(optimizer)
        model.optimizer.build(model.trainable_variables)
        return model

    def train(model, steps):
        for step in steps:
            model.train_on_batch(images(2, 32, 32, seed=step), labels(2, 32, 32, num_classes=4, seed=step))
        return weights_of(model)

    first = weights_of(start())
    frozen = train(start(), range(3))
    np.testing.assert_array_equal(frozen["conv/kernel"], first["conv/kernel"])
    assert np.abs(frozen["predict/kernel"] - first["predict/kernel"]).max() > 1e-3

    whole = train(start(), range(6))
    assert np.abs(whole["conv/kernel"] - first["conv/kernel"]).max() > 1e-4
    before, after = start(), start()
    train(before, range(stop))
    restore_training_state(after, training_state(before))
    for name, value in train(after, range(stop, 6)).items():
        np.testing.assert_array_equal(value, whole[name], err_msg=name)
