"""JAX, PyTorch and TensorFlow agree on one model, each in a process where the others cannot be imported."""

import concurrent.futures
import copy
import os
import pathlib
import pkgutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import torch

import mtl_keras
import zoo
from benchmarks.peers import torch_model, transfer
from tests import backend_probe, harness
from tests.conftest import AS_A_USER
from tests.test_losses import cross_entropy, depth_error
from tests.test_metrics import confusion, miou_of, silog_of
from tests.torch_peer import torch_outputs, torch_step, worst

BACKENDS = ("jax", "torch", "tensorflow")
ROOT = pathlib.Path(__file__).parent.parent


def run_alone(backend: str, code: str) -> None:
    """Runs code in a process where no other backend is found."""
    environment = {**os.environ, **AS_A_USER, "KERAS_BACKEND": backend}
    command = [sys.executable, "-c", f"import tests.only_one_backend\n{code}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def model() -> mtl_keras.MultiTaskModel:
    keras.utils.set_random_seed(backend_probe.SEED)
    return zoo.build("distillation", encoder=backend_probe.ENCODER)


@pytest.fixture(scope="module")
def network(model, found) -> torch.nn.Module:
    """The plain PyTorch network with the weights that the backends were given, in float64."""
    network = torch_model.Distillation(backend_probe.ENCODER).double()
    transfer.load_keras_weights(network, model)
    return network


@pytest.fixture(scope="module")
def found(model, module_path) -> dict[str, dict[str, np.ndarray]]:
    """What each backend found, and "saved", the weights before they were randomized."""
    saved = {f"built/{i}": backend_probe.summary(value) for i, value in enumerate(model.get_weights())}
    harness.randomize(model)
    model.save(module_path / "model.keras")
    code = f"import pathlib, tests.backend_probe\ntests.backend_probe.probe(pathlib.Path({str(module_path)!r}))"
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(run_alone, BACKENDS, [code] * len(BACKENDS)))
    return {"saved": saved, **{backend: dict(np.load(module_path / f"{backend}.npz")) for backend in BACKENDS}}


def part(found: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {key.partition("/")[2]: value for key, value in found.items() if key.startswith(f"{name}/")}


@pytest.mark.parametrize("backend", BACKENDS)
def test_predictions_are_those_of_plain_pytorch(found, network, backend):
    expected = torch_outputs(network, harness.images(4, *backend_probe.SIZE))
    actual = part(found[backend], "predictions")
    assert actual.keys() == expected.keys()
    for name in expected:
        assert harness.relative_error(actual[name], expected[name]) < 1e-6


@pytest.mark.parametrize("backend", BACKENDS)
def test_losses_and_metrics_are_those_of_numpy(found, network, backend):
    labels = harness.labels(4, *backend_probe.SIZE)
    predictions = torch_outputs(network, harness.images(4, *backend_probe.SIZE))
    semseg, depth = predictions["semseg"], predictions["depth"]
    expected = {
        "semseg_loss": cross_entropy(labels["semseg"], semseg),
        "depth_loss": depth_error(labels["depth"], depth, mtl_keras.MINISCAPES.depth_std),
        "miou": miou_of(confusion(labels["semseg"], semseg.argmax(-1), 19)),
        "silog": silog_of(labels["depth"], depth, mtl_keras.MINISCAPES.depth_range),
    }
    assert part(found[backend], "scores") == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def step(model, network) -> tuple[float, dict]:
    """The loss of a training step and how far each weight moves, of plain PyTorch."""
    before, peer = transfer.state_dict(model), copy.deepcopy(network)
    optimizer = torch.optim.SGD(peer.parameters(), backend_probe.RATE, momentum=0.9, weight_decay=1e-4)
    image, labels = harness.images(4, *backend_probe.SIZE), harness.labels(4, *backend_probe.SIZE)
    loss = torch_step(peer, optimizer, image, labels)
    return loss, {name: value.detach() - before[name] for name, value in peer.named_parameters()}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_training_step_is_that_of_plain_pytorch(found, model, step, backend):
    """As far as a ReLU that rounding turns on or off allows; test_torch_parity.py tests the step itself closely."""
    loss, expected = step
    before = transfer.state_dict(model)
    trained = type(model).from_config(model.get_config())
    trained.set_weights([found[backend][f"trained/{index}"] for index in range(len(model.weights))])
    after = transfer.state_dict(trained)
    assert float(found[backend]["loss"]) == pytest.approx(loss, rel=1e-5)
    assert worst({name: after[name] - before[name] for name in expected}, expected) < 0.05


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_seed_gives_the_same_weights(found, backend):
    actual, expected = part(found[backend], "built"), part(found["saved"], "built")
    assert actual.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_checkpoint_holds_the_trained_weights(found, backend):
    assert found[backend]["kept"]


def test_every_module_imports_without_tensorflow():
    """Those that need it for one of their functions import it there; those of JAX are asked for under JAX alone."""
    modules = [
        module.name
        for package in (mtl_keras, zoo)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if ".jax_" not in module.name
    ]
    run_alone("torch", f"import importlib\nfor name in {modules}: importlib.import_module(name)")


@pytest.mark.parametrize("backend", sorted({*BACKENDS} - {keras.backend.backend()}))
def test_parts_keep_their_promises_on_the_other_backends(backend):
    names = ("test_layers", "test_losses", "test_metrics", "test_optimizers", "test_own_networks")
    parts = [*(f"tests/{name}.py" for name in names), "tests/data/test_feeding.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-x", *parts]
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


TRACED_ONCE = """
from mtl_keras import MultiTaskModel
from tests import harness
traced, train_step = [], MultiTaskModel.train_step
MultiTaskModel.train_step = lambda model, data: traced.append(data) or train_step(model, data)
model = harness.tiny_model()
model.compile()
model.fit(harness.images(2, 32, 32), harness.labels(2, 32, 32, 4), epochs=2, verbose=0)
assert len(traced) == 1, len(traced)
"""


def test_tensorflow_traces_the_step_of_a_fit_once():
    run_alone("tensorflow", TRACED_ONCE)
