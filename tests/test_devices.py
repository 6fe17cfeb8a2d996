"""Several devices, and several processes, compute what one device does; and what is told of devices is true."""

import collections
import json
import os
import pathlib
import re
import socket
import stat
import subprocess
import sys

import keras
import numpy as np
import pytest

from mtl_keras import backend
from mtl_keras.errors import UserError
from tests import devices_probe
from trainers.config import RunConfig
from trainers.devices import check

ROOT = pathlib.Path(__file__).parents[1]


def started(folder: pathlib.Path, cases: list[dict], connection: dict | None = None, **environment: str):
    """A probe of some cases in a process of its own."""
    command = [sys.executable, "-m", "tests.devices_probe", str(folder), json.dumps(cases), json.dumps(connection)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(*probes: subprocess.Popen) -> None:
    outputs = [probe.communicate(timeout=300)[0] for probe in probes]
    for probe, output in zip(probes, outputs, strict=True):
        assert probe.returncode == 0, output[-3000:]


def part(found: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {key.partition("/")[2]: value for key, value in found.items() if key.startswith(f"{name}/")}


def numbers(found: dict[str, np.ndarray], name: str) -> dict[str, float]:
    return {key: float(value) for key, value in part(found, name).items()}


def assert_same(found: dict[str, np.ndarray], alone: dict[str, np.ndarray]) -> None:
    """Logs, what a training step changed (weights: the gradients; moving statistics) and a picture's predictions."""
    logs = numbers(alone, "logs")
    assert numbers(found, "logs") == pytest.approx(logs, rel=1e-5)
    validation = {name: logs[f"val_{name}"] for name in logs if f"val_{name}" in logs}
    assert numbers(found, "restored") == pytest.approx(validation, rel=1e-5)
    before, after, expected = part(alone, "before"), part(found, "after"), part(alone, "after")
    for name in expected:
        change = np.abs(expected[name] - before[name]).max()
        assert change > 0, name
        np.testing.assert_allclose(after[name], expected[name], rtol=0, atol=1e-4 * change, err_msg=name)
    for name, value in part(alone, "picture").items():
        np.testing.assert_allclose(part(found, "picture")[name], value, rtol=1e-4, atol=1e-4)


FOUR_CPUS = "--xla_force_host_platform_device_count=4"


COLLECTIVE = re.compile(r" (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(")
DUMPED = "--xla_dump_hlo_as_text --xla_dump_hlo_module_re=.*train_step.*"


@pytest.fixture(scope="module")
def jax_folder(tmp_path_factory) -> pathlib.Path:
    """What JAX finds on 1, 2 and 4 devices, and the steps that it compiles for them."""
    folder = tmp_path_factory.mktemp("jax")
    cases = [{"devices": count} for count in (1, 2, 4)]
    xla_flags = f"{FOUR_CPUS} {DUMPED} --xla_dump_to={folder}"
    # What was compiled before is not dumped.
    environment = {"XLA_FLAGS": xla_flags, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    finished(started(folder, cases, KERAS_BACKEND="jax", **environment))
    return folder


@pytest.fixture(scope="module")
def jax_found(jax_folder) -> dict[int, dict[str, np.ndarray]]:
    return {count: dict(np.load(jax_folder / f"jax-{count}.npz")) for count in (1, 2, 4)}


@pytest.mark.parametrize("count", [2, 4])
def test_jax_devices_compute_what_one_does(jax_found, count):
    assert_same(jax_found[count], jax_found[1])
    assert str(jax_found[count]["described"]).endswith(f"on {count} × cpu")


def test_a_step_on_several_jax_devices_waits_once_for_a_batch_norm_and_once_for_its_gradient(jax_folder):
    """Beside these it sums the gradients, the losses' counts and the confusion matrix; nothing else travels."""
    programs = [path.read_text() for path in sorted(jax_folder.glob("*train_step*after_optimizations.txt"))]
    counts = [collections.Counter(COLLECTIVE.findall(program)) for program in programs]
    assert [count.keys() for count in counts] == [set(), {"all-reduce"}, {"all-reduce"}]
    for count in counts[1:]:
        assert count["all-reduce"] <= 2 * devices_probe.BATCH_NORMS + 3


def test_two_jax_processes_compute_what_one_does(jax_found, tmp_path):
    """Told of each other as Slurm tells them."""
    port = free_port(61440, 65535)
    slurm = {
        "SLURM_JOB_ID": str(port - 61440),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_LOCALID": "0",
    }
    environment = {**slurm, "KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    connection = {"coordinator": "auto"}
    finished(*(started(tmp_path, [{"devices": 2}], connection, **environment, SLURM_PROCID=i) for i in ("0", "1")))
    found = dict(np.load(tmp_path / "jax-2.npz"))
    assert_same(found, jax_found[1])
    assert str(found["described"]).endswith("on 4 × cpu in 2 processes")


def free_port(first: int, last: int) -> int:
    for port in range(first + os.getpid() % 1000, last):
        with socket.socket(socket.AF_INET6) as candidate:
            try:
                candidate.bind(("::", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


@pytest.fixture(scope="module")
def tensorflow_found(tmp_path_factory) -> dict[str, dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("tensorflow")
    # A process can hold the collectives of one strategy.
    cases = [{"devices": 1}, {"devices": 2}], [{"devices": 4}], [{"devices": 2, "synchronized": False}]
    finished(*(started(folder, some, KERAS_BACKEND="tensorflow") for some in cases))
    return {path.stem: dict(np.load(path)) for path in folder.iterdir()}


@pytest.mark.parametrize("count", [2, 4])
def test_tensorflow_replicas_compute_what_one_does(tensorflow_found, count):
    assert_same(tensorflow_found[f"tensorflow-{count}"], tensorflow_found["tensorflow-1"])


def test_batch_norm_that_is_not_synchronised_is_another_model(tensorflow_found):
    """The test above would see it."""
    apart, alone = (tensorflow_found[f"tensorflow-{name}"] for name in ("2-False", "1"))
    before, expected = (part(alone, name)["norm/moving_variance"] for name in ("before", "after"))
    difference = np.abs(part(apart, "after")["norm/moving_variance"] - expected).max()
    assert difference > 0.1 * np.abs(expected - before).max()


def test_the_first_device_is_one_of_those_that_there_are(jax_found):
    cores = os.cpu_count()
    assert str(jax_found[1]["described"]).endswith(f"on cpu ({cores} cores)")


def test_devices_that_are_not_there_are_told_in_one_line(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(UserError, match="devices: 64 asked for, and jax has 1 here; give 1, or all"):
        backend.Parallel.over(64)
    with pytest.raises(UserError, match="JAX's batch norm always spans all devices"):
        backend.Parallel.over(1, synchronized=False)


def test_what_a_backend_cannot_do_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(UserError, match="devices: data parallelism is not provided under torch; set KERAS_BACKEND=jax"):
        backend.Parallel.over("all")
    monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")
    with pytest.raises(UserError, match="several processes are not supported under tensorflow; set KERAS_BACKEND=jax"):
        backend.connect("auto")


@pytest.mark.parametrize(
    "connection, message",
    [
        ({"coordinator": "node1"}, "'node1' is not HOST:PORT; give one such as node1:1234, or auto"),
        ({"coordinator": "node1:1234", "count": 2}, "give --processes=N and --process_id=0 to N - 1"),
        ({"coordinator": "node1:1234", "count": 2, "index": 2}, "process_id: 2 of 2 processes"),
        ({"coordinator": "auto"}, "coordinator: auto does not work .* give --coordinator=HOST:PORT"),
    ],
)
def test_processes_that_cannot_meet_are_told_in_one_line(connection, message, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("SLURM_", "OMPI_", "KUBERNETES_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(UserError, match=message):
        backend.connect(**connection)


@pytest.mark.parametrize(
    "batch_size, parallel, message",
    [
        (6, backend.Parallel(4), "batch_size: 6 cannot be shared by 4 devices; give 4 or 8"),
        (3, backend.Parallel(4), "batch_size: 3 cannot be shared by 4 devices; give 4"),
        (4, backend.Parallel(4, synchronized=False), "batch_size: 1 on a device does not go with the ASPP"),
        (1, backend.Parallel(1), "batch_size: 1 does not go with the ASPP"),
    ],
)
def test_a_batch_that_devices_cannot_share_is_told_in_one_line(batch_size, parallel, message):
    with pytest.raises(UserError, match=message):
        check(RunConfig(batch_size=batch_size), parallel)


def test_one_image_a_device_goes_with_synchronised_batch_norm():
    check(RunConfig(batch_size=4), backend.Parallel(4))
    check(RunConfig(batch_size=4, aspp=False), backend.Parallel(4, synchronized=False))


def test_a_gpu_that_the_backend_does_not_see_is_told(monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    warning = backend.idle_gpu_warning(lambda: ["NVIDIA H100 80GB HBM3"])
    assert "NVIDIA H100 80GB HBM3" in warning and "pip install '.[cuda-jax]'" in warning and "\n" not in warning
    assert backend.idle_gpu_warning(lambda: []) is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert backend.idle_gpu_warning(lambda: ["NVIDIA H100 80GB HBM3"]) is None


@pytest.mark.parametrize(
    "script, expected",
    [("echo 'NVIDIA H100'; echo 'NVIDIA A100'", ["NVIDIA H100", "NVIDIA A100"]), ("echo 'No devices'; exit 9", [])],
)
def test_the_driver_is_asked_for_gpus(script, expected, tmp_path, monkeypatch):
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert backend.present_gpus() == expected


@pytest.mark.parametrize("name, hidden", [("jax", True), ("torch", True), ("tensorflow", False)])
def test_tensorflow_keeps_off_the_gpus_of_another_backend(name, hidden, tmp_path):
    """A TensorFlow that is imported beside, by a library, say, would take their memory."""
    (tmp_path / "tensorflow.py").write_text(
        "class config:\n"
        "    list_physical_devices = staticmethod(lambda kind=None: [])\n"
        "    set_visible_devices = staticmethod(lambda *what: print('visible', *what))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", "import trainers, tensorflow"],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": name, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ("visible [] GPU\n" if hidden else "")
