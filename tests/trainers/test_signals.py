"""What a signal does to a run that is in the middle of something else than its steps."""

import signal
import subprocess
import sys
import threading

import pytest

from mtl_keras.saving import StopOnSignal, Stopped
from tests.trainers.conftest import ROOT
from trainers.signals import ending_at_once

# Its products of matrices take half a minute each, and Python's handlers run after one.
BUSY = """
import signal, sys
import numpy as np
from trainers.signals import ending_at_once
side = 4096 if sys.argv[1:] else 16384
big = np.ones((side, side), "float32")
with ending_at_once(75, "stopped; here is how to go on"):
    if sys.argv[1:] == ["other"]:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
    print("busy", flush=True)
    big @ big @ big
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_the_process_in_the_middle_of_a_library_s_call(number):
    process = subprocess.Popen([sys.executable, "-c", BUSY], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "busy\n"
    process.send_signal(number)
    assert process.communicate(timeout=20)[0] == "stopped; here is how to go on\n"
    assert process.returncode == 75


def test_who_sets_another_handler_has_the_signal():
    process = subprocess.Popen([sys.executable, "-c", BUSY, "other"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "busy\n"
    process.send_signal(signal.SIGTERM)
    assert (process.communicate(timeout=300)[0], process.returncode) == ("", 9)


def test_afterwards_signals_do_what_they_did_before():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with ending_at_once(75, "stopped"):
        assert signal.getsignal(signal.SIGTERM) is signal.getsignal(signal.SIGINT) not in before
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert not [thread for thread in threading.enumerate() if thread.name == "signals"]
    assert signal.set_wakeup_fd(-1) == -1


def test_in_another_thread_it_leaves_signals_alone():
    seen = []

    def enter():
        with ending_at_once(75, "stopped"):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


@pytest.mark.parametrize("error, said", [("KeyboardInterrupt", ["interrupted"]), ("ValueError", ["ValueError"])])
def test_an_interrupted_import_is_no_trace_and_any_other_error_is(error, said):
    done = subprocess.run(
        [sys.executable, "-c", f"import trainers; raise {error}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stderr.splitlines()[-1:] == said and done.returncode
    assert (len(done.stderr.splitlines()) == 1) == (error == "KeyboardInterrupt")


def test_a_signal_after_the_last_step_is_passed_on_once_to_who_had_it_before(monkeypatch):
    had = []
    monkeypatch.setattr(StopOnSignal, "SIGNALS", (signal.SIGUSR1,))
    before = signal.signal(signal.SIGUSR1, lambda number, frame: had.append(number))
    try:
        stop = StopOnSignal(last=None)
        stop.on_train_batch_end(0)
        stop.on_epoch_end(0)
        signal.raise_signal(signal.SIGUSR1)
        assert not had
        stop.restore()
        stop.restore()
        assert had == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_signal_that_a_run_stopped_for_is_not_passed_on(monkeypatch):
    class Saved:
        def save(self):
            saved.append("state")

        def wait(self):
            saved.append("on the disk")

    saved, had = [], []
    monkeypatch.setattr(StopOnSignal, "SIGNALS", (signal.SIGUSR1,))
    before = signal.signal(signal.SIGUSR1, lambda number, frame: had.append(number))
    try:
        stop = StopOnSignal(Saved())
        stop.on_train_batch_end(0)
        signal.raise_signal(signal.SIGUSR1)
        with pytest.raises(Stopped):
            stop.on_train_batch_end(1)
        stop.restore()
        assert saved == ["state", "on the disk"] and not had
    finally:
        signal.signal(signal.SIGUSR1, before)
