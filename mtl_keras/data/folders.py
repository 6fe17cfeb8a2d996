"""Folders that several processes share."""

import contextlib
import fcntl
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes a folder and holds its lock; others wait, and the system releases it if the process dies.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("waiting for another process that prepares data in %s", folder)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove_all(folder: Path, pattern: str) -> list[Path]:
    """Removes the matching folders, as far as that is possible, and names them."""
    found = sorted(folder.glob(pattern))
    for path in found:
        shutil.rmtree(path, ignore_errors=True)
    return found
