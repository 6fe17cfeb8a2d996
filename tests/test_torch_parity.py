"""The Keras models against the plain PyTorch ones: same weights in, same numbers out."""

import copy

import keras
import pytest
import torch

import zoo
from benchmarks.peers import torch_model, transfer
from mtl_keras import optimizers
from tests import harness
from tests.torch_peer import torch_outputs, torch_step, within_rounding

SIZE = (64, 96)
# PyTorch has no fast convolutions in float64.
TRAINING_SIZE = (32, 64)

MODELS = {
    "joint": ("joint", {}),
    "branched": ("branched", {}),
    "distillation": ("distillation", {}),
    "joint, stride 32": ("joint", {"dilation": (False, False, False)}),
    "joint, stride 8": ("joint", {"dilation": (False, True, True)}),
    "joint, wide rates": ("joint", {"aspp_rates": (6, 12, 18)}),
    "branched, no ASPP": ("branched", {"aspp": False}),
    "distillation, no skip": ("distillation", {"skip": False}),
    "joint, neither": ("joint", {"aspp": False, "skip": False}),
    "resnet34, stride 8": ("joint", {"encoder": "resnet34", "dilation": (False, True, True), "aspp": False}),
    "resnet50, stride 8": (
        "joint",
        {"encoder": "resnet50", "dilation": (False, True, True), "aspp": False, "skip": False},
    ),
    "resnet101": ("joint", {"encoder": "resnet101", "aspp": False}),
}


def pair(arch: str, encoder: str = "resnet18", aspp_rates=(3, 6, 9), **options):
    """A Keras model with weights that show mistakes, and its peer with the same in float64."""
    model = zoo.build(arch, encoder=encoder, aspp_rates=aspp_rates, **options)
    harness.randomize(model)
    network = torch_model.TOPOLOGIES[arch](encoder, rates=aspp_rates, **options).double()
    transfer.load_keras_weights(network, model)
    return model, network


@pytest.mark.parametrize("name", MODELS)
def test_inference(name):
    arch, options = MODELS[name]
    model, network = pair(arch, **options)
    image = harness.images(1, *SIZE)
    actual, expected = harness.outputs(model, image), torch_outputs(network, image)
    assert actual.keys() == expected.keys()
    for key in expected:
        assert harness.relative_error(actual[key], expected[key]) < 1e-6


@pytest.mark.parametrize("name", ["joint", "branched", "distillation", "resnet50, stride 8"])
def test_training_step(name):
    """The joint loss of what is predicted with batch statistics, all gradients, and the running statistics."""
    arch, options = MODELS[name]
    model, network = pair(arch, **options)
    single = copy.deepcopy(network).float()
    image, labels = harness.images(4, *TRAINING_SIZE), harness.labels(4, *TRAINING_SIZE)

    # Plain gradient descent at a rate that leaves nothing of the old weights' digits, so that w' = -rate·gradient.
    rate = 2.0**30
    before = transfer.state_dict(model)
    model.compile(keras.optimizers.SGD(rate))
    loss = model.train_on_batch(image, labels, return_dict=True)["loss"]
    after = transfer.state_dict(model)
    counts = count_normalized_values(network)
    losses = [torch_step(peer, torch.optim.SGD(peer.parameters(), 0.0), image, labels) for peer in (network, single)]
    assert loss == pytest.approx(losses[0], rel=1e-5)

    expected, rounded = ({key: value.grad for key, value in peer.named_parameters()} for peer in (network, single))
    gradients = {key: (before[key].double() - after[key].double()) / rate for key in expected}
    assert within_rounding(gradients, expected, rounded)
    assert_running_statistics(after, network.state_dict(), before, counts)


def count_normalized_values(network) -> dict[str, int]:
    """Filled by the next forward pass: how many values of a channel each batch normalisation saw."""
    counts = {}
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(
                lambda _, inputs, __, name=name: counts.update({name: inputs[0].numel() // inputs[0].shape[1]})
            )
    return counts


def assert_running_statistics(actual, expected, before, counts):
    """PyTorch keeps the unbiased variance and Keras the biased one, n/(n - 1) less."""
    assert counts
    for name, count in counts.items():
        mean, variance = f"{name}.running_mean", f"{name}.running_var"
        assert harness.relative_error(actual[mean], expected[mean]) < 1e-5
        batch_variance = (expected[variance] - 0.9 * before[variance]) * (count - 1) / count
        assert harness.relative_error(actual[variance], 0.9 * before[variance] + batch_variance) < 1e-5


@pytest.mark.parametrize("name", ["Adam", "SGD"])
def test_training_steps(name):
    """The report's optimizers over several steps, the learning rate changing on the way."""
    model, network = pair("joint", aspp=False, skip=False)
    single = copy.deepcopy(network).float()
    image, labels = harness.images(4, *TRAINING_SIZE), harness.labels(4, *TRAINING_SIZE)
    options = {"weight_decay": 1e-4, **({"momentum": 0.9} if name == "SGD" else {})}
    rates = [1e-4, 1e-4, 5e-5, 5e-5, 2e-4] if name == "Adam" else [1e-2, 1e-2, 5e-3, 5e-3, 1e-2]
    before = transfer.state_dict(model)

    model.compile(getattr(optimizers, name)(rates[0], **options))
    losses = []
    for rate in rates:
        model.optimizer.learning_rate = rate
        model.reset_metrics()
        losses.append(model.train_on_batch(image, labels, return_dict=True)["loss"])
    after = transfer.state_dict(model)

    torch_losses, moves = [], []
    for peer in (network, single):
        optimizer = getattr(torch.optim, name)(peer.parameters(), **options)
        for rate in rates:
            optimizer.param_groups[0]["lr"] = rate
            torch_losses.append(torch_step(peer, optimizer, image, labels))
        moves.append({key: value.detach() - before[key] for key, value in peer.named_parameters()})
    expected, rounded = moves
    move = {key: after[key] - before[key] for key in expected}
    assert losses == pytest.approx(torch_losses[: len(rates)], rel=1e-4)
    assert within_rounding(move, expected, rounded)
