"""A run on several devices and in several processes, as a person starts it."""

import os
import signal
import stat
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from benchmarks import tiny_run
from mtl_keras import backend
from mtl_keras.callbacks import Clock, read_metrics
from mtl_keras.checkpoints import StateFiles
from mtl_keras.saving import BestWeights, LastState, Stopped
from tests import harness
from tests.test_devices import free_port
from trainers.devices import StopTogether

ROOT = Path(__file__).parents[2]
EPOCHS = 4


@pytest.fixture(scope="module")
def flags(tmp_path_factory) -> list[str]:
    data = tmp_path_factory.mktemp("data")
    tiny_run.write_dataset(data / "source")
    return [*tiny_run.flags(data), "--batch_size=4", f"--epochs={EPOCHS}"]


def start(*arguments: str, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        tiny_run.command(*arguments),
        cwd=ROOT,
        env=tiny_run.environment(**environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen, status: int = 0) -> tuple[str, str]:
    output, errors = process.communicate(timeout=300)
    assert process.returncode == status, errors[-3000:]
    return output, errors


def only_run(folder: Path) -> Path:
    (run,) = folder.iterdir()
    return run


@pytest.fixture(scope="module")
def alone(flags, tmp_path_factory) -> tuple[Path, str, str]:
    """A run on one device, on a machine whose driver tells of a GPU; what it printed, and its errors."""
    driver, runs = tmp_path_factory.mktemp("driver"), tmp_path_factory.mktemp("alone")
    command = driver / "nvidia-smi"
    command.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3'\n")
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    output, errors = finished(start(*flags, f"--runs_dir={runs}", PATH=f"{driver}:{os.environ['PATH']}"))
    return only_run(runs), output, errors


def test_a_gpu_without_use_is_told_in_one_line(alone):
    _, output, errors = alone
    assert output.splitlines()[0].startswith(f"jax {version('jax')} on cpu ({os.cpu_count()} cores) · ")
    (warning,) = [line for line in errors.splitlines() if "GPU" in line]
    assert warning.startswith("warning: this machine has a GPU (NVIDIA H100 80GB HBM3) that jax does not see")


def test_two_processes_stop_together_and_one_goes_on_with_two_devices(alone, flags, tmp_path):
    """SIGTERM reaches the process that writes nothing; the figures are those of one device."""
    port = free_port(20000, 30000)
    shared = [*flags, f"--runs_dir={tmp_path}", "--save_steps=1", f"--coordinator=localhost:{port}", "--processes=2"]
    main, other = (start(*shared, f"--process_id={index}") for index in range(2))
    deadline = time.monotonic() + 240
    while not any(tmp_path.glob("*/checkpoints/step-*")):
        assert main.poll() is None and other.poll() is None, (main.communicate(), other.communicate())
        assert time.monotonic() < deadline
        time.sleep(0.01)
    other.send_signal(signal.SIGTERM)
    output, _ = finished(main, status=75)
    said, _ = finished(other, status=75)
    run = only_run(tmp_path)
    assert f"go on with --resume {run}" in output and "in 2 processes" in output and run.name not in said

    two_cpus = "--xla_force_host_platform_device_count=2"
    output, _ = finished(start(f"--resume={run}", "--devices=all", XLA_FLAGS=two_cpus))
    assert " on 2 × cpu · " in output.splitlines()[0] and only_run(tmp_path) == run
    rows, expected = read_metrics(run / "metrics.csv"), read_metrics(alone[0] / "metrics.csv")
    assert [row["epoch"] for row in rows] == list(range(1, EPOCHS + 1))
    for row, expected_row in zip(rows, expected, strict=True):
        for name in ("loss", "silog", "val_loss", "val_silog"):
            assert row[name] == pytest.approx(expected_row[name], rel=1e-3)


@pytest.mark.parametrize("asked_at, saved_after", [(2, 2), (5, 3)], ids=["in training", "in validation"])
def test_what_stops_together_stops_in_validation_too(asked_at, saved_after, tmp_path, monkeypatch):
    """An epoch has three steps and two batches of validation; the state of the last step is there by then."""
    counted = []
    monkeypatch.setattr(backend, "preempted", lambda batch: counted.append(batch) or batch == asked_at)
    train, val = ((harness.images(count, 16, 16), harness.labels(count, 16, 16, 4)) for count in (6, 4))
    model = harness.tiny_model()
    model.compile("sgd")
    clock, files = Clock(), StateFiles(tmp_path)
    last = LastState(files, clock, BestWeights(tmp_path / "best"), steps_per_epoch=3)
    with pytest.raises(Stopped):
        model.fit(
            *train,
            batch_size=2,
            validation_data=val,
            verbose=0,
            callbacks=[clock, last, StopTogether(last)],
        )
    assert counted == list(range(1, asked_at + 1))
    assert files.load()[0] == saved_after


def test_what_a_person_got_wrong_ends_in_one_line(flags, tmp_path):
    cases = {
        ("--devices=3",): ("jax", "error: devices: 3 asked for, and jax has 1 here; give 1, or all"),
        ("--devices=two",): ("jax", "error: devices: 'two' is no number; give one, or all"),
        ("--processes=2",): ("jax", "error: processes: they need a coordinator"),
        ("--coordinator=auto",): ("jax", "error: coordinator: auto does not work"),
        ("--coordinator=auto", "--devices=2"): ("tensorflow", "several processes are not supported under tensorflow"),
        ("--devices=all",): ("torch", "error: devices: data parallelism is not provided under torch"),
    }
    started = {case: start(*flags, f"--runs_dir={tmp_path}", *case, KERAS_BACKEND=cases[case][0]) for case in cases}
    for case, process in started.items():
        _, errors = finished(process, status=2)
        assert cases[case][1] in errors.strip().splitlines()[-1], errors
        assert "Traceback" not in errors
    assert not list(tmp_path.iterdir())
