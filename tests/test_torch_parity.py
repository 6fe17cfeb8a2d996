"""The Keras models against the plain PyTorch ones: same weights in, same numbers out."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
import torch

import zoo
from benchmarks.peers import torch_model, transfer
from mtl_keras import optimizers
from tests import float64_steps, harness
from tests.torch_peer import torch_outputs, torch_step

SIZE = (64, 96)
ROOT = pathlib.Path(__file__).parent.parent

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


@pytest.fixture(scope="module")
def errors() -> dict[str, dict[str, float]]:
    """How far our training in float64 is from plain PyTorch's."""
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, "-m", "tests.float64_steps"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", float64_steps.TOPOLOGIES)
def test_gradients_and_running_statistics(errors, name):
    """Each tensor's error against its own length, the worst of them all; the loss is told in float32."""
    found = errors[name]
    assert found["loss"] < 1e-6
    assert found["gradients"] < 1e-11
    assert found["running means"] < 1e-13
    assert found["running variances"] < 1e-13


# Adam divides a gradient by its own size, so that the smallest, which keep the fewest digits, move as far as any.
@pytest.mark.parametrize("name, tolerance", [("SGD", 1e-10), ("Adam", 1e-8)])
def test_weights_after_five_steps(errors, name, tolerance):
    found = errors[name]
    assert found["loss"] < 1e-6
    assert found["weights"] < tolerance


@pytest.mark.parametrize("name, rate", [("SGD", 1e-3), ("Adam", 1e-4)])
def test_losses_of_five_steps_in_float32(name, rate):
    """On the backend at hand.

    The first loss is as near as rounding allows. From then on a ReLU that rounding turned on or off is worth up to some
    percent of a gradient, whatever library rounds, and a step at the report's rates carries that into the loss.
    """
    model, network = pair("joint")
    options = {"weight_decay": 1e-4, **({"momentum": 0.9} if name == "SGD" else {})}
    model.compile(getattr(optimizers, name)(rate, **options))
    theirs = getattr(torch.optim, name)(network.parameters(), rate, **options)
    for step, tolerance in enumerate((1e-6, 1e-3, 1e-3, 1e-3, 1e-3)):
        image, labels = harness.images(4, *SIZE, step), harness.labels(4, *SIZE, seed=step)
        model.reset_metrics()
        loss = model.train_on_batch(image, labels, return_dict=True)["loss"]
        assert loss == pytest.approx(torch_step(network, theirs, image, labels), rel=tolerance)
