"""A run whose data has a real fault in it, and a learning rate that no network survives."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import zoo
from mtl_keras.callbacks import read_metrics
from mtl_keras.checkpoints import StateFiles, weights_of
from tests.conftest import AS_A_USER
from tests.trainers.conftest import LIGHT, ROOT
from trainers.cli import EXIT_NOT_FINITE

BAD = "7"


@pytest.fixture(scope="module")
def fit(scenes):
    """Trains on scenes of which one has a depth whose square is infinite; gives the status and what was printed."""

    def run(*flags: str, data: bool = True, bad: str = BAD) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "tests.trainers.faulty_fit", *((*scenes, *LIGHT) if data else ()), *flags],
            cwd=ROOT,
            env={**os.environ, **AS_A_USER, "FAULTY_ID": bad},
            capture_output=True,
            text=True,
            timeout=900,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def named(text: str) -> list[tuple[int, list[str], str]]:
    """The steps, images and places that lines name."""
    found = re.findall(r"step (\d+), images ([\d, ]+), first in (.+?)[;\n]", text)
    return [(int(step), ids.split(", "), where) for step, ids, where in found]


def only_run(folder: Path) -> Path:
    (run,) = folder.iterdir()
    return run


def assert_finite(arrays):
    assert all(np.isfinite(value).all() for value in arrays.values())


def test_a_bad_batch_stops_the_run_and_a_rollback_goes_on_behind_it(fit, tmp_path):
    status, _, errors = fit(f"--runs_dir={tmp_path}")
    assert status == EXIT_NOT_FINITE == 65
    assert "Traceback" not in errors
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    ((step, ids, where),) = named(line)
    assert BAD in ids and len(ids) == 3 and where == "the loss of depth"
    run = only_run(tmp_path)
    assert f"--resume={run}" in line and "--on_nan=rollback" in line
    before, arrays, _ = StateFiles(run / "checkpoints").load()
    assert before == step - 1
    assert_finite(arrays)

    status, output, errors = fit(f"--resume={run}", "--on_nan=rollback", data=False)
    assert status == 0, errors[-2000:]
    (line,) = [line for line in output.splitlines() if line.startswith("rolled back: ")]
    assert named(line) == [(step, ids, where)]
    rows = read_metrics(run / "metrics.csv")
    assert [row["step"] for row in rows] == [4, 8]
    assert all(np.isfinite([row["loss"], row["val_loss"]]).all() for row in rows)
    np.testing.assert_allclose([row["learning_rate"] for row in rows], [1e-4, 1e-4 * 0.5**0.9], rtol=1e-6)
    assert_finite(StateFiles(run / "checkpoints").load()[1])
    assert json.loads((run / "config.json").read_text())["on_nan"] == "stop"


def test_skipped_steps_are_counted_and_said(fit, tmp_path):
    status, output, errors = fit(f"--runs_dir={tmp_path}", "--on_nan=skip")
    assert status == 0, errors[-2000:]
    told = re.findall(r"epoch (\d): 1 of 4 steps skipped.*the last was step (\d+), images ([\d, ]+)", output)
    ((epoch, step, ids),) = told
    assert epoch == "1" and int(step) <= 4 and BAD in ids.split(", ")
    run = only_run(tmp_path)
    assert all(np.isfinite(row["loss"]) for row in read_metrics(run / "metrics.csv"))
    assert_finite(weights_of(zoo.load(run)))


def test_an_epoch_of_skipped_steps_ends_the_run_and_gives_nothing_to_go_on_from(fit, tmp_path):
    flags = ["--on_nan=skip", "--optimizer=sgd", "--learning_rate=1e30", "--epochs=2"]
    status, output, errors = fit(f"--runs_dir={tmp_path}", *flags, bad="none")
    assert status == EXIT_NOT_FINITE
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert "all were skipped" in line and "--resume" not in line
    assert "loss 0.00" not in output


def test_a_learning_rate_too_high_names_the_layer_that_it_broke(fit, tmp_path):
    """The first step makes the weights huge; the second one's first convolution overflows."""
    status, _, errors = fit(f"--runs_dir={tmp_path}", "--learning_rate=1e30", bad="none")
    assert status == EXIT_NOT_FINITE
    ((step, _, where),) = named(errors)
    assert step == 2 and where == "layer encoder/layer1_0_conv1"
    assert StateFiles(only_run(tmp_path) / "checkpoints").load()[0] == 1
