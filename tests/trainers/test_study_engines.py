"""Where the runs of a study are executed: on this machine, or by Ray."""

import _thread
import signal
import sys
import threading
import types

import pytest

from mtl_keras.errors import UserError
from tests.trainers.waiting import wait_until
from trainers.cli import EXIT_USER_ERROR
from trainers.config import RunConfig
from trainers.scheduling import failures
from trainers.scheduling.engines import Job, LocalEngine, make_engine, run_to_its_end
from trainers.scheduling.ledger import claimed


class TestEngines:
    def test_a_local_job_ends_with_its_status_and_logs_both_streams(self, tmp_path):
        engine = LocalEngine()
        program = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
        engine.start(Job("a", ("-c", program), tmp_path / "a.log"))
        ((job, status),) = wait_for(engine)
        assert (job.label, status) == ("a", 3)
        assert (tmp_path / "a.log").read_text().splitlines()[-2:] == ["out", "err"]

    def test_stop_passes_sigterm_on_and_lets_the_job_save(self, tmp_path):
        engine = LocalEngine()
        program = (
            "import signal, sys, time\n"
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
            f"open({str(tmp_path / 'ready')!r}, 'w').close()\n"
            "time.sleep(60)"
        )
        engine.start(Job("a", ("-c", program), tmp_path / "a.log"))
        wait_until((tmp_path / "ready").exists)
        engine.stop()
        assert [status for _, status in wait_for(engine)] == [75]

    def test_a_job_keeps_its_claim_when_the_study_is_gone(self, tmp_path):
        engine = LocalEngine()
        with claimed(tmp_path, RunConfig()) as claim:
            engine.start(Job("a", ("-c", "import time; time.sleep(60)"), tmp_path / "a.log", claim))
        with claimed(tmp_path, RunConfig()) as another:
            assert another is None
        engine.stop()
        wait_for(engine)
        with claimed(tmp_path, RunConfig()) as another:
            assert another is not None

    def test_an_unknown_engine_and_a_missing_ray_are_told_in_one_line(self, monkeypatch):
        with pytest.raises(UserError, match="'slurm' is unknown; use local, ray or ray://ADDRESS"):
            make_engine("slurm", 1, 0)
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(UserError, match="pip install 'ray"):
            make_engine("ray", 1, 0)

    def test_ray_gets_each_runs_resources_and_gives_its_status(self, monkeypatch, tmp_path):
        ray = FakeRay()
        monkeypatch.setitem(sys.modules, "ray", ray)
        engine = make_engine("ray://head:10001", cpus=4, gpus=0.5)
        engine.start(Job("a", ("-c", "import sys; sys.exit(5)"), tmp_path / "a.log"))
        assert [status for _, status in engine.ended()] == [5]
        assert ray.address == "ray://head:10001"
        assert (ray.options["num_cpus"], ray.options["num_gpus"], ray.options["max_retries"]) == (4, 0.5, 0)

    def test_what_a_cluster_cannot_run_fails_with_the_reason(self, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "ray", FakeRay())
        engine = make_engine("ray", cpus=1, gpus=0)
        monkeypatch.setattr("os.getcwd", lambda: str(tmp_path / "not shared"))
        engine.start(Job("a", ("-c", ""), tmp_path / "a.log"))
        ((job, status),) = engine.ended()
        assert status == EXIT_USER_ERROR
        assert "a machine of the cluster could not run it ([Errno 2] No such file" in failures.reason(status, job.log)

    def test_a_run_that_a_cluster_cancels_saves_at_once(self, tmp_path):
        program = (
            "import signal, sys, time\n"
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
            f"open({str(tmp_path / 'ready')!r}, 'w').close()\n"
            "time.sleep(30)"
        )

        def cancel():
            wait_until((tmp_path / "ready").exists)
            _thread.interrupt_main()  # as Ray does

        # What a shell starts in the background ignores it.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            threading.Thread(target=cancel).start()
            assert run_to_its_end(Job("a", ("-c", program), tmp_path / "a.log"), str(tmp_path), {}) == 75
        finally:
            signal.signal(signal.SIGINT, before)

    def test_a_run_on_a_cluster_has_the_backend_of_the_machine_that_asked(self, monkeypatch, tmp_path):
        monkeypatch.setenv("KERAS_BACKEND", "the worker's")
        job = Job("a", ("-c", "import os; print(os.environ['KERAS_BACKEND'])"), tmp_path / "a.log")
        assert run_to_its_end(job, str(tmp_path), {"KERAS_BACKEND": "the asker's"}) == 0
        assert job.log.read_text().splitlines()[-1] == "the asker's"


class RayError(Exception):
    """What Ray's errors are."""


class RayTaskError(RayError):
    """What a task raised."""

    def __init__(self, cause):
        self.cause = cause


class FakeRay(types.ModuleType):
    """As much of Ray as the engine uses; a task runs when it is asked for."""

    def __init__(self):
        super().__init__("ray")
        self.exceptions = types.SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
        self.cloudpickle = types.SimpleNamespace(register_pickle_by_value=lambda module: None)

    def init(self, address, **options):
        self.address = address

    def remote(self, **options):
        self.options = options
        return lambda function: types.SimpleNamespace(remote=lambda *arguments: lambda: function(*arguments))

    def wait(self, references, num_returns, timeout):
        return references, []

    def get(self, reference):
        try:
            return reference()
        except OSError as error:
            raise RayTaskError(error) from error


def wait_for(engine: LocalEngine) -> list[tuple[Job, int]]:
    found: list[tuple[Job, int]] = []
    wait_until(lambda: found.extend(engine.ended()) or found)
    return found
