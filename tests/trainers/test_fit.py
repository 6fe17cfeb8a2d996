"""`python -m trainers.fit`, typed as a person would, killed as a machine would."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

import zoo
from mtl_keras.callbacks import read_metrics
from mtl_keras.checkpoints import StateFiles, weights_of
from tests.conftest import AS_A_USER
from tests.harness import images
from tests.trainers.conftest import LIGHT, ROOT

LOGS = {"loss", "semseg_loss", "depth_loss", "miou", "silog", "grader"}


def finished(process: subprocess.Popen, status: int = 0) -> tuple[str, str]:
    """What a command printed, once it has ended with the status that was expected."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == status, errors[-3000:]
    return output, errors


def only_run(folder: Path) -> Path:
    (run,) = folder.iterdir()
    return run


@pytest.fixture(scope="module")
def whole_run(command, scenes, module_path) -> tuple[Path, str]:
    """A run that nothing interrupted, and what it printed."""
    output, _ = finished(command("fit", *scenes, f"--runs_dir={module_path / 'whole'}", "--baseline", "--profile=2"))
    return only_run(module_path / "whole"), output


@pytest.fixture(scope="module")
def light_run(command, scenes, module_path) -> Path:
    """A run of a lighter network that nothing interrupted."""
    finished(command("fit", *scenes, *LIGHT, f"--runs_dir={module_path / 'light'}", "--baseline"))
    return only_run(module_path / "light")


def test_a_run_leaves_everything_that_its_folder_promises(whole_run):
    run, _ = whole_run
    assert json.loads((run / "config.json").read_text())["encoder"] == "resnet18"
    rows = read_metrics(run / "metrics.csv")
    assert [row["epoch"] for row in rows] == [1, 2]
    assert [row["step"] for row in rows] == [4, 8]
    assert {*LOGS, *(f"val_{name}" for name in LOGS)} <= set(rows[0])
    np.testing.assert_allclose([row["learning_rate"] for row in rows], [1e-4, 1e-4 * 0.5**0.9], rtol=1e-6)
    assert list((run / "tensorboard").glob("events.out.tfevents.*"))
    assert list((run / "tensorboard").glob("plugins/profile/*/*.trace.json.gz"))
    for name in ("pictures/epoch_001.png", "pictures/epoch_002.png", "pictures/curves.png", "README.md"):
        assert (run / name).stat().st_size > 0


def test_it_tells_what_runs_where_and_ends_with_the_grader(whole_run):
    run, output = whole_run
    first = output.splitlines()[0]
    assert all(word in first for word in ("cpu", "float32", "branched/resnet18", "22.0 M parameters", run.name))
    assert "untrained" in output
    assert f"best, epoch {best_epoch(run)}" in output


def best_epoch(run: Path) -> int:
    rows = read_metrics(run / "metrics.csv")
    return int(max(rows, key=lambda row: (row["val_grader"], row["val_miou"] - row["val_silog"]))["epoch"])


def test_the_model_is_the_best_checkpoint(whole_run):
    run, _ = whole_run
    model, checkpoint = zoo.load(run), zoo.load(run / "checkpoints" / "best.safetensors")
    batch = images(1, 64, 96)
    for name, output in model.predict(batch, verbose=0).items():
        np.testing.assert_array_equal(output, checkpoint.predict(batch, verbose=0)[name])


def assert_same_result(run: Path, whole: Path) -> None:
    """Equal to the last bit: all weights, and every row of the table but for its seconds."""
    expected = weights_of(zoo.load(whole))
    for name, value in weights_of(zoo.load(run)).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    rows, expected_rows = (read_metrics(folder / "metrics.csv") for folder in (run, whole))
    for row, expected_row in zip(rows, expected_rows, strict=True):
        assert {**row, "seconds": 0} == {**expected_row, "seconds": 0}


def stop_at(process: subprocess.Popen, runs: Path, step: int, number: signal.Signals) -> Path:
    """Sends a signal once the state after a step is on the disk; returns the run."""
    deadline = time.monotonic() + 240
    while not any(runs.glob(f"*/checkpoints/step-{step:010d}-*.safetensors")):
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate(timeout=60)
    return only_run(runs)


@pytest.mark.parametrize("step", [3, 4])
def test_a_run_killed_at_any_step_ends_as_if_nothing_had_happened(command, scenes, light_run, tmp_path, step):
    flags = [*scenes, *LIGHT, f"--runs_dir={tmp_path}", "--save_steps=1", "--baseline"]
    run = stop_at(command("fit", *flags), tmp_path, step, signal.SIGKILL)
    assert not (run / "model.keras").exists()
    finished(command("fit", f"--resume={run}"))
    assert_same_result(run, light_run)


@pytest.mark.parametrize("backend", sorted({"tensorflow", "torch"} - {keras.backend.backend()}))
def test_a_killed_run_goes_on_under_the_other_backends_too(command, scenes, tmp_path, backend):
    flags = [*scenes, *LIGHT, "--save_steps=1"]
    whole = command("fit", *flags, f"--runs_dir={tmp_path / 'whole'}", KERAS_BACKEND=backend)
    killed = command("fit", *flags, f"--runs_dir={tmp_path / 'killed'}", KERAS_BACKEND=backend)
    run = stop_at(killed, tmp_path / "killed", 3, signal.SIGKILL)
    finished(command("fit", f"--resume={run}", KERAS_BACKEND=backend))
    finished(whole)
    assert_same_result(run, only_run(tmp_path / "whole"))


def test_steps_that_pytorch_compiles_train_alike(command, scenes, tmp_path):
    losses = []
    for compiled in ("true", "false"):
        flags = [*scenes, *LIGHT, f"--jit_compile={compiled}", f"--runs_dir={tmp_path / compiled}"]
        finished(command("fit", *flags, KERAS_BACKEND="torch"))
        rows = read_metrics(only_run(tmp_path / compiled) / "metrics.csv")
        losses.append([[row["loss"], row["val_loss"]] for row in rows])
    np.testing.assert_allclose(*losses, rtol=1e-3)


def test_where_tensorflow_is_missing_a_run_ends_without_a_savedmodel(scenes, tmp_path):
    code = "import runpy, tests.only_one_backend; runpy.run_module('trainers.fit', run_name='__main__')"
    arguments = [*scenes, *LIGHT, "--epochs=1", "--export", f"--runs_dir={tmp_path}"]
    environment = {**os.environ, **AS_A_USER, "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", code, *arguments]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    output, _ = finished(process)
    assert "no SavedModel, which TensorFlow makes and is not installed: pip install tensorflow, then" in output
    assert (only_run(tmp_path) / "model.keras").is_file()


def test_sigterm_saves_and_says_how_to_go_on(command, scenes, light_run, tmp_path):
    flags = [*scenes, *LIGHT, f"--runs_dir={tmp_path}", "--save_steps=2", "--baseline"]
    process = command("fit", *flags)
    run = stop_at(process, tmp_path, 2, signal.SIGTERM)
    assert process.returncode == 75
    state = StateFiles(run / "checkpoints").load()
    assert state is not None and state[0] >= 2
    finished(command("fit", *flags, "--resume=auto"))
    assert_same_result(run, light_run)


def test_a_signal_before_the_first_step_ends_the_run_and_says_how_to_go_on(command, scenes, light_run, tmp_path):
    process = command("fit", *scenes, *LIGHT, f"--runs_dir={tmp_path}", "--baseline", JAX_ENABLE_COMPILATION_CACHE="0")
    assert "jax" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    output, errors = finished(process, 75)
    run = only_run(tmp_path)
    assert (output, errors) == (f"stopped; go on with --resume {run}\n", "")
    assert not (run / "checkpoints").exists()
    finished(command("fit", f"--resume={run}"))
    assert_same_result(run, light_run)


def test_a_damaged_state_falls_back_to_the_one_before(command, scenes, light_run, tmp_path):
    flags = [*scenes, *LIGHT, f"--runs_dir={tmp_path}", "--save_steps=1", "--baseline"]
    run = stop_at(command("fit", *flags), tmp_path, 6, signal.SIGKILL)
    newest = max((run / "checkpoints").glob("step-*"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    # How its data is read may change: here by a worker process, from a cache that it shares.
    output, _ = finished(command("fit", f"--resume={run}", "--workers=1", f"--cache_dir={tmp_path / 'cache'}"))
    assert any((tmp_path / "cache").iterdir())
    assert f"{newest} is damaged" in output.replace("\n", "")
    assert_same_result(run, light_run)


def test_a_run_goes_on_with_its_own_data_alone_wherever_that_lies(command, light_run, scenes_dir, tmp_path):
    shutil.copytree(light_run, tmp_path / "run")
    shutil.copytree(scenes_dir, tmp_path / "moved", copy_function=shutil.copyfile)
    places = [f"--data_dir={tmp_path / 'moved'}", f"--prepared_dir={tmp_path / 'prepared'}"]
    output, _ = finished(command("fit", f"--resume={tmp_path / 'run'}", *places))
    assert output.splitlines()[0].endswith(" · every step is done")
    before = contents(tmp_path / "run")
    for kind, suffix in (("rgb", "jpg"), ("semseg", "png"), ("depth", "png")):
        (tmp_path / "moved" / "train" / kind / f"0.{suffix}").unlink()
    _, errors = finished(command("fit", f"--resume={tmp_path / 'run'}", *places), status=2)
    (line,) = (line for line in errors.splitlines() if line.startswith("error:"))
    assert "the data is not what the run began with (mean depth " in line
    assert "training images 12, now 11); put that back, or name its folder with --data_dir" in line
    assert contents(tmp_path / "run") == before


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_a_person_got_wrong_ends_in_one_line(command, scenes, whole_run, tmp_path):
    run, _ = whole_run
    # As a run comes from the hub.
    shutil.copytree(run, tmp_path / "pulled", ignore=shutil.ignore_patterns("step-*"))
    # A network that cannot be built is told of before data is prepared for it.
    unprepared = f"--prepared_dir={tmp_path / 'unprepared'}"
    cases = {
        ("--arch=separate", unprepared): "error: arch: 'separate' is unknown; use one of branched, distillation, joint",
        ("--encoder=vgg16",): "error: encoder: 'vgg16' is unknown",
        ("--dataset=roads",): "roads",
        ("--dataset=miniscapes", "--data_dir=/nowhere"): "/nowhere",
        ("--learning_rate=fast",): "error: flag --learning_rate=fast",
        ("--lerning_rate=1",): "error: Unknown command line flag 'lerning_rate'",
        ("streets",): "error: 'streets' is no flag",
        ("--resume=",): "error: no path: not a run",
        (f"--resume={run}", f"--config={run / 'config.json'}"): "error: resume: a run that goes on has its own",
        (f"--config={run / 'config.json'}", "--recipe=demo"): "error: recipe: a configuration has its own",
        (f"--config={run}", "--tilt=200"): "tilt 200",
        (f"--resume={tmp_path}",): f"error: {tmp_path}: not a run",
        (f"--resume={tmp_path / 'pulled'}",): f"error: {tmp_path / 'pulled'}: no state to go on from (there is none)",
        (f"--resume={run}", "--epochs=3"): "error: epochs: a resumed run keeps its own settings",
        ("--pretrained=/nowhere", unprepared): "error: /nowhere: no such weights",
        ("--crop=30,64", unprepared): "error: crop: 30,64 is not a multiple of the output stride 16; give 32,64",
        ("--batch_size=1",): "error: batch_size: 1 does not go with the ASPP",
    }
    processes = {}
    for case in cases:
        flags = (
            [*case]
            if case[0].startswith(("--resume", "--config"))
            else [*scenes, f"--runs_dir={tmp_path / 'runs'}", *case]
        )
        processes[case] = command("fit", *flags)
    for case, process in processes.items():
        _, errors = finished(process, status=2)
        lines = errors.strip().splitlines()
        assert cases[case] in lines[-1], errors
        assert "Traceback" not in errors
    assert not (tmp_path / "runs").exists() and not (tmp_path / "unprepared").exists()
    assert (tmp_path / "pulled" / "metrics.csv").read_bytes() == (run / "metrics.csv").read_bytes()


def test_an_unknown_backend_is_told_in_one_line(command):
    _, errors = finished(command("fit", KERAS_BACKEND="theano"), status=2)
    assert errors == "error: KERAS_BACKEND: 'theano' is unknown; use jax, tensorflow or torch\n"
