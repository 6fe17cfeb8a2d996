"""What has been run: the run folders of a place, and the ledger that a study keeps of its runs.

The ledger, `<runs_dir>/studies/<study>/<recipe>/study.json`, lists what a study asks for and why runs of it failed;
what became of them is read in their own folders.
"""

import contextlib
import dataclasses
import enum
import fcntl
import math
import os
from collections.abc import Iterator
from pathlib import Path

from mtl_keras.callbacks import read_metrics
from mtl_keras.errors import UserError
from mtl_keras.files import as_tuples, read_values, write_json
from mtl_keras.saving import rank_of
from trainers.config import RunConfig, read_config
from trainers.run_folder import RunFolder
from trainers.scheduling.plan import PlannedRun, identity
from zoo.study import Study

LEDGER = "study.json"

Rows = list[dict[str, float]]


class State(enum.StrEnum):
    """What has become of a planned run."""

    MISSING = "not run yet"
    STOPPED = "cut off"
    BUSY = "running"
    FINISHED = "finished"


@dataclasses.dataclass(frozen=True)
class Found:
    """What is there of a planned run: its folder, if it has one."""

    state: State
    folder: RunFolder | None = None


class RunFolders:
    """The run folders of a place, by what they are runs of.

    Args:
        runs_dir: where run folders lie.
    """

    def __init__(self, runs_dir: str | Path):
        self.path = Path(runs_dir)
        self.unreadable: dict[Path, str] = {}
        self._identities: dict[Path, str] = {}

    def find(self, config: RunConfig) -> Found:
        """The furthest run of a configuration, the newest of those that are as far."""
        # A folder that has neither a model nor a state holds nothing to go on from.
        runs = [(state, run) for run in self._of(config) if (state := state_of(run)) is not State.MISSING]
        if not runs:
            return Found(State.MISSING)
        order = list(State)
        return Found(*max(runs, key=lambda run: (order.index(run[0]), _age(run[1]))))

    def under_way(self, config: RunConfig) -> RunFolder | None:
        """The newest folder of a configuration, whatever it holds."""
        return max(self._of(config), key=_age, default=None)

    def _of(self, config: RunConfig) -> list[RunFolder]:
        """All folders of a configuration."""
        for path in self.path.glob("*/config.json"):
            if path.parent in self._identities or path.parent in self.unreadable:
                continue
            try:
                self._identities[path.parent] = identity(read_config(path))
            except UserError as error:
                self.unreadable[path.parent] = str(error)
        wanted = identity(config)
        return [RunFolder(path) for path in sorted(self._identities) if self._identities[path] == wanted]


def state_of(run: RunFolder) -> State:
    """What has become of the run in a folder."""
    if run.model.is_file():
        return State.FINISHED
    if is_locked(run.lock):
        return State.BUSY
    return State.STOPPED if run.has_state else State.MISSING


def is_locked(path: Path) -> bool:
    """Whether a living process holds a lock file."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextlib.contextmanager
def claimed(runs_dir: str | Path, config: RunConfig) -> Iterator[int | None]:
    """Keeps other studies from starting the same run; gives None where another one has it.

    What it gives otherwise is a file's descriptor: a process that inherits it has the claim too, as long as it lives.
    """
    path = Path(runs_dir) / "studies" / "claims" / f"{identity(config)}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield file.fileno()


def rows_of(run: RunFolder) -> Rows:
    """A run's epochs so far; raises `UserError` for a table that is damaged."""
    if not run.metrics.is_file():
        return []
    try:
        rows = read_metrics(run.metrics)
        for row in rows:
            _ = row["seconds"], row["loss"], row["val_grader"], row["val_miou"], row["val_silog"]
    except (KeyError, ValueError, TypeError):
        raise UserError(f"{run.metrics}: not a whole table of epochs; remove the run, or get the file again") from None
    return rows


def best_row(rows: Rows) -> dict[str, float]:
    """The epoch whose weights a run keeps."""
    return max(rows, key=rank)


def rank(row: dict[str, float]) -> tuple[float, float]:
    """What epochs are compared by: the grader, then mIoU − SI-logRMSE, which it is before it is clamped."""
    return rank_of(validation(row))


def validation(row: dict[str, float]) -> dict[str, float]:
    """An epoch's validation metrics by their plain names."""
    return {name: row[f"val_{name}"] for name in ("grader", "miou", "silog")}


def became_nan(rows: Rows) -> str | None:
    """Why a run's figures mean nothing, or None: from some epoch on its loss is no number."""
    for row in rows:
        if not math.isfinite(row["loss"]):
            return f"the loss is {row['loss']} from epoch {row['epoch']:.0f} on; lower the learning rate"
    return None


@dataclasses.dataclass
class Ledger:
    """What a study asks for, and why runs of it failed.

    Args:
        study: the study's name.
        recipe: what its runs start from.
        runs: by label.
        failures: label → reason.
        path: what the commands call the study: its name, or its file.
    """

    study: str
    recipe: str
    runs: dict[str, PlannedRun]
    failures: dict[str, str]
    path: str = ""

    @classmethod
    def of(cls, study: Study, recipe: str, runs: list[PlannedRun]) -> "Ledger":
        return cls(study.name, recipe, {run.label: run for run in runs}, {}, study.path)

    def write(self, folder: Path) -> None:
        write_json(folder / LEDGER, dataclasses.asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "Ledger":
        """Reads a study's ledger; raises `UserError` where there is none, or none that is whole."""
        path = folder / LEDGER
        try:
            values = read_values(path)
            for label, run in values["runs"].items():
                values["runs"][label] = PlannedRun(**{**run, "config": RunConfig(**as_tuples(run["config"]))})
            return cls(**values)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{path}: not a study's ledger ({error}); run trainers.study again") from None


def refuse_namesake(study: Study, folder: Path) -> None:
    """Raises `UserError` where a folder has the ledger of another file of the study's name, which would be lost."""
    try:
        other = Path(Ledger.read(folder).path)
    except UserError:
        return  # There is none, or none that is worth keeping.
    if other.is_file() and other.resolve() != Path(study.path).resolve():
        raise UserError(f"{study.path}: {folder} is that of {other}; rename the file, or give another --runs_dir")


def ledger_folder(runs_dir: str | Path, study: str, recipe: str) -> Path:
    """Where a study keeps its ledger, and the configurations and logs of its runs."""
    return Path(runs_dir) / "studies" / study / recipe


def _age(run: RunFolder) -> float:
    return os.path.getmtime(run.config)
