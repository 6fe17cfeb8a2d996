"""A preparation that is interrupted, killed, short of disk, or not alone."""

import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures.process import BrokenProcessPool

import pytest

from mtl_keras import data
from mtl_keras.data.folders import locked
from mtl_keras.errors import UserError
from tests.trainers.waiting import wait_until

SLOW_PREPARATION = """
    import signal, sys, time
    from mtl_keras.data import raw_files
    # A shell starts what runs in its background with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    read = raw_files.read_example
    def slow(*args, **kwargs):
        print("reading", flush=True)
        time.sleep(0.3)
        return read(*args, **kwargs)
    raw_files.read_example = slow
    from mtl_keras import data
    data.load("miniscapes", "train", data_dir=sys.argv[1], prepared_dir=sys.argv[2])
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_preparation_is_not_taken_for_complete(miniscapes_dir, tmp_path, end):
    prepared_dir = tmp_path / "prepared"
    command = [sys.executable, "-c", textwrap.dedent(SLOW_PREPARATION), str(miniscapes_dir), str(prepared_dir)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    with subprocess.Popen(command, env=environment, **options) as process:
        for _ in range(6):
            process.stdout.readline()
        process.send_signal(end)
        process.wait(timeout=60)
    assert process.returncode != 0
    assert not list(prepared_dir.rglob("dataset_info.json"))
    dataset = data.load("miniscapes", "train", data_dir=miniscapes_dir, prepared_dir=prepared_dir)
    assert len(dataset) == 11 and dataset[10]["image"].shape == (72, 96, 3)
    assert not list(prepared_dir.rglob("*incomplete*"))


def test_a_disk_that_cannot_take_the_data_is_told_and_left_clean(miniscapes_dir, tmp_path):
    program = """
        import resource, sys
        from mtl_keras import data
        from mtl_keras.errors import UserError
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        try:
            data.load("miniscapes", "train", data_dir=sys.argv[1], prepared_dir=sys.argv[2])
        except UserError as error:
            print(error)
    """
    prepared_dir = tmp_path / "prepared"
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(miniscapes_dir), str(prepared_dir)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    assert result.stdout.startswith("cannot prepare miniscapes in"), result.stderr
    assert "File too large" in result.stdout and "--prepared_dir" in result.stdout
    assert not list(prepared_dir.rglob("*train*"))


def test_a_preparation_whose_worker_process_was_killed_is_one_line(miniscapes_dir, tmp_path, monkeypatch):
    builder = data.make_builder("miniscapes", data_dir=miniscapes_dir, prepared_dir=tmp_path)

    def killed():
        raise BrokenProcessPool("a process was terminated abruptly")

    monkeypatch.setattr(builder, "download_and_prepare", killed)
    with pytest.raises(UserError, match="^cannot prepare miniscapes: a worker process was killed, .*more memory"):
        data.prepare(builder)


def test_who_waits_for_another_process_is_told(tmp_path, caplog):
    fcntl = pytest.importorskip("fcntl")
    entered = []

    def enter():
        with locked(tmp_path):
            entered.append(True)

    waiting = threading.Thread(target=enter)
    with caplog.at_level(logging.INFO, "mtl_keras.data.folders"), open(tmp_path / ".lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        waiting.start()
        wait_until(lambda: caplog.messages, seconds=60)
        assert caplog.messages == [f"waiting for another process that prepares data in {tmp_path}"] and not entered
        fcntl.flock(other, fcntl.LOCK_UN)
        waiting.join(60)
    assert entered == [True]
    with locked(tmp_path):
        pass
    assert len(caplog.messages) == 1
