"""What a machine does to a run: full disks, killed workers, files that vanish, clocks that jump, a second process."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks import tiny_run
from mtl_keras import data
from mtl_keras.callbacks import Clock, MetricsTable, read_metrics
from mtl_keras.checkpoints import StateFiles
from mtl_keras.errors import UserError
from mtl_keras.event_writer import EventWriter
from tests.conftest import AS_A_USER
from trainers.config import RunConfig
from trainers.run_folder import RunFolder, create, locked
from trainers.scheduling.ledger import is_locked


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A dataset for `benchmarks.tiny_run`, prepared."""
    folder = tmp_path_factory.mktemp("faults")
    tiny_run.write_dataset(folder / "source")
    for split in ("train", "val"):
        data.load("miniscapes", split, data_dir=folder / "source", prepared_dir=folder / "prepared")
    return folder


def run_command(*arguments: str) -> subprocess.CompletedProcess:
    environment = tiny_run.environment(**AS_A_USER)
    return subprocess.run(arguments, cwd=tiny_run.ROOT, env=environment, capture_output=True, text=True, timeout=300)


def only_run(runs: Path) -> RunFolder:
    (config,) = runs.glob("*/config.json")
    return RunFolder(config.parent)


def can_mount() -> bool:
    """Whether a process may mount a file system of its own: as root, or in a namespace for users."""
    if sys.platform != "linux":
        return False
    mounting = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(mounting, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="needs to mount a small file system")
def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_space(source, tmp_path):
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    kept.mkdir()
    flags = [*tiny_run.flags(source), "--epochs=6", "--save_steps=2", f"--runs_dir={disk}"]
    # What lies on the small disk is gone with the process that mounted it, so it is copied away first.
    script = f"""
        mount -t tmpfs -o size=700k tmpfs '{disk}'
        "$@"
        status=$?
        cp -r '{disk}'/. '{kept}'
        exit $status
    """
    full = run_command("unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", *tiny_run.command(*flags))
    assert full.returncode == 2, full.stderr
    *warnings, last = full.stderr.strip().splitlines()
    assert last.startswith("error: ") and "No space left on device" in last and "--resume=" in last
    assert warnings and all("could not be saved" in line for line in warnings)
    run = only_run(kept)
    rows = read_metrics(run.metrics)
    state = StateFiles(run.checkpoints).load()
    assert state is not None and state[0] > 0 and rows

    done = run_command(*tiny_run.command(f"--resume={run.path}"))
    assert done.returncode == 0, done.stderr
    again = read_metrics(run.metrics)
    assert [row["epoch"] for row in again] == [1, 2, 3, 4, 5, 6]
    for row, before in zip(again, rows, strict=False):
        assert {**row, "seconds": 0} == {**before, "seconds": 0}


@pytest.fixture(scope="module")
def loaders(source):
    """Makes loaders of two worker processes; all are closed at the end."""
    made = []

    def make() -> data.Loader:
        dataset = data.load("miniscapes", "train", data_dir=source / "source", prepared_dir=source / "prepared")
        made.append(data.Loader(dataset, 3, data.TrainView((32, 32)), seed=4, cache="none", workers=2, prefetch=2))
        return made[-1]

    yield make
    for loader in made:
        loader.close()


def test_a_killed_worker_changes_no_batch(source, loaders, caplog):
    dataset = data.load("miniscapes", "train", data_dir=source / "source", prepared_dir=source / "prepared")
    with data.Loader(dataset, 3, data.TrainView((32, 32)), seed=4) as threads:
        # More than what the workers may have read ahead when they are killed.
        expected = [threads[step] for step in range(24)]
    loader, batches = loaders(), []
    for step in range(24):
        if step == 3:
            for child in psutil.Process().children(recursive=True):
                if "spawn_main" in " ".join(child.cmdline()):
                    child.kill()
        batches.append(loader[step])
    assert "a worker process of the loader was killed" in caplog.text
    for (image, labels), (expected_image, expected_labels) in zip(batches, expected, strict=True):
        np.testing.assert_array_equal(image, expected_image)
        np.testing.assert_array_equal(labels["depth"], expected_labels["depth"])


def test_prepared_data_that_vanishes_is_one_line_with_the_way_on(source, tmp_path):
    shutil.copytree(source / "prepared", tmp_path / "prepared")
    where = {"data_dir": source / "source", "prepared_dir": tmp_path / "prepared"}
    run = create(RunConfig(runs_dir=str(tmp_path / "runs")))
    loader = data.Loader(data.load("miniscapes", "train", **where), 3, data.TrainView((32, 32)), cache="none")
    with loader, pytest.raises(UserError) as error, locked(run):
        assert loader[0][0].shape == (3, 32, 32, 3)
        for file in (tmp_path / "prepared").rglob("*array_record*"):
            os.truncate(file, 0)
        for step in range(1, 100):
            loader[step]
    message = str(error.value)
    assert "prepared data" in message and str(tmp_path / "prepared") in message and f"--config={run.config}" in message
    assert "\n" not in message


def test_a_raw_file_that_vanishes_before_it_is_read_is_named(source, tmp_path):
    shutil.copytree(source / "source", tmp_path / "source")
    builder = data.make_builder("miniscapes", data_dir=tmp_path / "source", prepared_dir=tmp_path / "prepared")
    (tmp_path / "source" / "train" / "semseg" / "7.png").unlink()
    with pytest.raises(UserError, match=r"train/semseg/7.png: No such file"):
        data.prepare(builder)


HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path):
    run = create(RunConfig(runs_dir=str(tmp_path)))
    with subprocess.Popen([sys.executable, "-c", HOLD, str(run.lock)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError) as error, locked(run):
            pytest.fail("two processes have the run")
        assert str(error.value) == f"{run.path}: another process is training this run; wait for it, or stop it"
        holder.send_signal(signal.SIGKILL)
    with locked(run):
        pass


def test_what_a_killed_process_was_writing_is_cleared_away_by_who_has_the_run_next(tmp_path):
    run = create(RunConfig(runs_dir=str(tmp_path)))
    run.checkpoints.mkdir()
    half = [run.path / ".metrics-0a1b2c3d.csv", run.checkpoints / ".step-0000000008--0a1b2c3d.safetensors"]
    for path in (*half, run.best):
        path.touch()
    with locked(run):
        assert run.best.exists() and not any(path.exists() for path in half)


def test_a_study_that_looks_at_a_run_does_not_keep_it_from_starting(tmp_path, monkeypatch):
    run = create(RunConfig(runs_dir=str(tmp_path)))
    looker = open(run.lock, "a")
    fcntl.flock(looker, fcntl.LOCK_SH)
    monkeypatch.setattr(time, "sleep", lambda seconds: looker.close())
    with locked(run):
        assert looker.closed and is_locked(run.lock)


def test_a_clock_that_jumps_back_disorders_nothing(tmp_path, monkeypatch):
    config = RunConfig(runs_dir=str(tmp_path), name="clock")
    first, clock = create(config), Clock()
    table = MetricsTable(first.metrics, clock)
    with EventWriter(first.tensorboard) as writer:
        writer.scalars({"a": 1.0}, step=1)
    table.on_epoch_end(0, {"loss": 1.0})
    now = time.time()
    local = time.localtime(now - 86400 * 400)
    monkeypatch.setattr(time, "time", lambda: now - 86400 * 400)
    monkeypatch.setattr(time, "strftime", lambda form, *at, original=time.strftime: original(form, *(at or (local,))))
    second = create(config)
    assert second.path != first.path and second.path.name.endswith(first.path.name[-5:]) is False
    with EventWriter(first.tensorboard, purge_step=2) as writer:
        writer.scalars({"a": 2.0}, step=2)
    older, newer = sorted(first.tensorboard.iterdir())
    assert newer == writer.path and older != newer
    table.on_epoch_end(1, {"loss": 0.5})
    seconds = [row["seconds"] for row in read_metrics(first.metrics)]
    assert 0 <= seconds[0] <= seconds[1] < 60


def test_an_error_of_the_system_in_a_run_names_the_file_and_the_way_on(tmp_path):
    run = create(RunConfig(runs_dir=str(tmp_path)))
    with pytest.raises(UserError) as error, locked(run):
        open(tmp_path / "gone").close()
    reason = f"{tmp_path / 'gone'}: No such file or directory; mend that, then"
    assert str(error.value) == f"{reason} start again with --config={run.config}"
    run.checkpoints.mkdir()
    (run.checkpoints / "step-0000000001-0123456789abcdef.safetensors").touch()
    with pytest.raises(UserError) as error, locked(run):
        open(tmp_path / "gone").close()
    assert str(error.value) == f"{reason} go on with --resume={run.path}"
