"""What runs a study's runs: this machine, one after the other, or a Ray cluster.

Each run is a process of its own, so that its memory is free when it ends and the study outlives its death.
"""

import dataclasses
import logging
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

from mtl_keras.errors import UserError, first_line
from trainers.cli import EXIT_USER_ERROR

# What a sitting of a run begins with in its log.
SITTING = "$ python "


@dataclasses.dataclass(frozen=True)
class Job:
    """A process to run.

    Args:
        label: the run's name within the study.
        arguments: what `python` is called with.
        log: where its output goes.
        claim: a file's descriptor that the process keeps open, on this machine, or None.
    """

    label: str
    arguments: tuple[str, ...]
    log: Path
    claim: int | None = None


class Engine(Protocol):
    """Runs jobs. `slots` are the jobs that it takes at a time."""

    slots: int

    def start(self, job: Job) -> None: ...

    def ended(self) -> list[tuple[Job, int]]:
        """The jobs that have ended since the last call, each with its exit status; −n for signal n."""

    def stop(self) -> None:
        """Asks every job to save and end; a second call ends them at once."""

    def close(self) -> None: ...


class LocalEngine:
    """One job at a time on this machine."""

    slots = 1

    def __init__(self) -> None:
        self._running: list[tuple[Job, subprocess.Popen]] = []

    def start(self, job: Job) -> None:
        self._running.append((job, start_process(job)))

    def ended(self) -> list[tuple[Job, int]]:
        over = [(job, process.returncode) for job, process in self._running if process.poll() is not None]
        self._running = [(job, process) for job, process in self._running if process.returncode is None]
        return over

    def stop(self) -> None:
        for _, process in self._running:
            process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        pass


class RayEngine:
    """As many jobs as a Ray cluster has room for. Its machines share the folder of the runs and that of the data.

    Args:
        address: "ray" for a cluster on this machine or the one that `RAY_ADDRESS` names, "ray://HOST:PORT" for any.
        cpus: CPUs of a run.
        gpus: GPUs of a run.

    Raises:
        UserError: where Ray is not installed, or the cluster is out of reach.
    """

    slots = sys.maxsize

    def __init__(self, address: str, cpus: float, gpus: float):
        try:
            import ray
        except ImportError:
            raise UserError("on: needs Ray; install it with `pip install 'ray[client]'`") from None
        self._ray: Any = ray
        try:
            at = None if address == "ray" else address
            ray.init(at, log_to_driver=False, logging_level=logging.WARNING, ignore_reinit_error=True)
        except Exception as error:
            # Ray raises of all its layers.
            raise UserError(f"on: no Ray cluster at {address} ({first_line(error)}); start one, or mend it") from None
        # The cluster's own processes need not find this package; those of the runs do.
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        self._run = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(run_to_its_end)
        self._running: dict[Any, Job] = {}
        self._stops = 0

    def start(self, job: Job) -> None:
        job = dataclasses.replace(job, log=job.log.resolve(), claim=None)
        self._running[self._run.remote(job, os.getcwd(), _environment())] = job

    def ended(self) -> list[tuple[Job, int]]:
        done, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        ended = [(reference, self._running.pop(reference)) for reference in done]
        return [(job, self._status(job, reference)) for reference, job in ended]

    def stop(self) -> None:
        # Ray raises KeyboardInterrupt in a task that runs, and forgets one that waits.
        self._stops += 1
        for reference in self._running:
            self._ray.cancel(reference, force=self._stops > 1)

    def close(self) -> None:
        self._ray.shutdown()

    def _status(self, job: Job, reference: Any) -> int:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            with open(job.log, "a", encoding="utf-8") as log:
                log.write(f"error: a machine of the cluster could not run it ({first_line(error.cause)})\n")
            return EXIT_USER_ERROR
        except self._ray.exceptions.RayError:
            # The task was cancelled before it began, or its machine is gone.
            return -signal.SIGTERM if self._stops else -signal.SIGKILL


def make_engine(on: str, cpus: float, gpus: float) -> LocalEngine | RayEngine:
    """The engine that `--on` names; raises `UserError` for any other name."""
    if on == "local":
        return LocalEngine()
    if on == "ray" or on.startswith("ray://"):
        return RayEngine(on, cpus, gpus)
    raise UserError(f"on: '{on}' is unknown; use local, ray or ray://ADDRESS")


def start_process(job: Job, folder: str | None = None, environment: dict[str, str] | None = None) -> subprocess.Popen:
    """Starts a job, its output appended to its log."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with open(job.log, "ab") as log:
        log.write(f"{SITTING}{' '.join(job.arguments)}\n".encode())
        log.flush()
        # A session of its own: Ctrl-C in a terminal reaches the study alone, which passes it on once.
        return subprocess.Popen(
            [sys.executable, *job.arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            start_new_session=True,
            pass_fds=() if job.claim is None else (job.claim,),
        )


def run_to_its_end(job: Job, folder: str, environment: dict[str, str]) -> int:
    """Runs a job on a machine of a cluster; a job that is cancelled saves before it ends."""
    # The machine that asked decides what its runs are; Ray, which GPUs they have.
    process = start_process(job, folder, {**os.environ, **environment})
    try:
        # Without a timeout Python would not look up, and Ray's KeyboardInterrupt would come after the end.
        return process.wait(timeout=math.inf)
    except KeyboardInterrupt:
        process.send_signal(signal.SIGTERM)
        return process.wait()


def _environment() -> dict[str, str]:
    """What decides a run's result or where its data is: the same on every machine."""
    return {name: value for name, value in os.environ.items() if name.startswith(("KERAS_", "TFDS_"))}
