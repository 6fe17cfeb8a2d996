"""A run's folder: `runs/<MMDD-HHMM>_<name>_<5 hex>/`. Nothing here deletes or overwrites one."""

import contextlib
import dataclasses
import fcntl
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from mtl_keras.errors import UserError, first_line
from mtl_keras.files import remove_half_written, write_text
from trainers.config import PLACES, RunConfig, read_config

# What a second process of a run is told; a study's queue knows it by these words.
BUSY = "another process is training this run"


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The paths of a run."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def has_state(self) -> bool:
        """Whether there is a state to go on from."""
        return any(self.checkpoints.glob("step-*.safetensors"))

    @property
    def best(self) -> Path:
        return self.checkpoints / "best.safetensors"

    @property
    def pictures(self) -> Path:
        return self.path / "pictures"

    @property
    def model(self) -> Path:
        return self.path / "model.keras"

    @property
    def saved_model(self) -> Path:
        return self.path / "saved_model"

    @property
    def card(self) -> Path:
        return self.path / "README.md"


def create(config: RunConfig) -> RunFolder:
    """Makes a new folder for a run and writes its configuration."""
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", config.name or config.arch).strip("-.")[:100] or "run"
    path = Path(config.runs_dir) / f"{time.strftime('%m%d-%H%M')}_{name}_{secrets.token_hex(3)[:5]}"
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"runs_dir: {path} cannot be made ({error.strerror}); give a folder to write to") from None
    run = RunFolder(path)
    write_text(run.config, config.to_json())
    return run


def run_of(source: str) -> str | None:
    """The run that a source of a model is: its folder, or one that a file lies in; None for a file of no run."""
    path = Path(source)
    folder = path if path.is_dir() else path.parent
    if path == RunFolder(folder.parent).best:
        folder = folder.parent
    return str(folder) if RunFolder(folder).config.is_file() else None


def home_of(source: str) -> Path:
    """Where what is made of a model goes by default: its run's folder, or the one that a model file is in."""
    path = Path(source)
    return Path(run_of(source) or (path if path.is_dir() else path.parent))


def open_run(path: str) -> tuple[RunFolder, RunConfig]:
    """An existing run and its configuration; raises `UserError` if there is none."""
    run = RunFolder(Path(path))
    if not run.config.is_file():
        raise UserError(f"{path or 'no path'}: not a run (it has no config.json); give a folder that trainers.fit made")
    return run, read_config(run.config)


def newest_like(config: RunConfig) -> RunFolder:
    """The newest run of the same configuration, or of one whose data lies elsewhere; `UserError` if there is none."""
    moved = None
    for path in sorted(Path(config.runs_dir).glob("*/config.json"), key=os.path.getmtime, reverse=True):
        with contextlib.suppress(UserError):
            found = read_config(path)
            if found == config:
                return RunFolder(path.parent)
            if dataclasses.replace(found, **{name: getattr(config, name) for name in PLACES}) == config:
                moved = moved or RunFolder(path.parent)
    if moved:
        return moved
    raise UserError(f"resume: no run of this configuration in {config.runs_dir}; start one without --resume")


def folder_for(path: str, out: str | None, name: str) -> Path:
    """Where a command writes: `out`, or a new folder `name`, `name-2`, … in the run (or beside a model file)."""
    if out:
        return Path(out)
    candidates = (home_of(path) / (f"{name}-{number}" if number > 1 else name) for number in range(1, 10_000))
    return next(candidate for candidate in candidates if not candidate.exists())


def writable(folder: Path, flag: str = "out") -> Path:
    """The folder that a flag names, if it can be written to; raises `UserError` before any work is done for it."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"{flag}: {there} is a file; give a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{flag}: {there} cannot be written to; give another folder")
    return folder


@contextlib.contextmanager
def locked(run: RunFolder) -> Iterator[None]:
    """Holds a run for this process, and clears away what a killed one was writing; a killed one lets go by itself.

    Raises:
        UserError: another process has it; or what happens within meets a full disk, say, or a file that is gone.
    """
    with open(run.lock, "a", encoding="utf-8") as file:
        if not _take(file):
            raise UserError(f"{run.path}: {BUSY}; wait for it, or stop it")
        try:
            for folder in (run.path, run.checkpoints, run.pictures):
                remove_half_written(folder)
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            reason = error.strerror or first_line(error)
            again = f"go on with --resume={run.path}" if run.has_state else f"start again with --config={run.config}"
            raise UserError(f"{error.filename or run.path}: {reason}; mend that, then {again}") from error


def _take(file: IO[str]) -> bool:
    """Locks a file for this process; False where another one keeps it."""
    for _ in range(20):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        # A study that only looks whether a run is taken has it for an instant.
        time.sleep(0.01)
    return False
