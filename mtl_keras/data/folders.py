"""Folders that several processes share."""

import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Makes a folder and holds its lock; others wait, and the system releases it if the process dies.

    Yields:
        Whether the lock is held. Windows has none: there nobody waits, and others may be at work in the folder.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        yield _lock(file, folder)


def _lock(file: Any, folder: Path) -> bool:
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        logger.info("waiting for another process that prepares data in %s", folder)
        fcntl.flock(file, fcntl.LOCK_EX)
    return True


def remove_all(folder: Path, pattern: str) -> list[Path]:
    """Removes the matching folders, as far as that is possible, and names them."""
    found = sorted(folder.glob(pattern))
    for path in found:
        shutil.rmtree(path, ignore_errors=True)
    return found
