"""The model of a run as it is judged: its best checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING

import zoo
from trainers.run_folder import RunFolder

if TYPE_CHECKING:
    from mtl_keras.model import MultiTaskModel


def load_best(path: str) -> "MultiTaskModel":
    """A run's model with its best checkpoint, or whatever else `zoo.load` takes.

    `model.keras` of a run that is going on may be older than its checkpoint, so the checkpoint comes first.
    """
    run = RunFolder(Path(path))
    return zoo.load(run.best if run.best.is_file() else path)


def folder_for(path: str, out: str | None, name: str) -> Path:
    """Where a command writes: `out`, or a new folder `name`, `name-2`, … in the run (or beside a model file)."""
    if out:
        return Path(out)
    source = Path(path)
    home = source if source.is_dir() else source.parent
    candidates = (home / (f"{name}-{number}" if number > 1 else name) for number in range(1, 10_000))
    return next(candidate for candidate in candidates if not candidate.exists())
