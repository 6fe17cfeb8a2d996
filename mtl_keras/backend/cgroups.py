"""What a container or a scheduler leaves this process of the machine: the limits of Linux's control groups, version 2.

Each group's limits hold for those within it. Files that are not there limit nothing.
"""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def memory_left() -> float:
    """Bytes that this process's groups may yet take, cached files not counted; infinite where nothing limits them."""
    left = math.inf
    for group in _groups():
        with contextlib.suppress(OSError, ValueError):
            most, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
            facts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            # The system gives these pages up before it ends a process.
            cached = int(facts["active_file"]) + int(facts["inactive_file"])
            left = min(left, max(most - used + cached, 0))
    return left


def cores() -> float:
    """Cores' time that this process's groups may take; infinite where nothing limits them."""
    least = math.inf
    for group in _groups():
        with contextlib.suppress(OSError, ValueError):
            quota, period = (group / "cpu.max").read_text().split()
            least = min(least, int(quota) / int(period))
    return least


def _groups() -> Iterator[Path]:
    """The process's own group and those around it."""
    with contextlib.suppress(OSError):
        for line in _OWN.read_text().splitlines():
            if line.startswith("0::/"):
                own = _ROOT / line.removeprefix("0::/")
                yield from (group for group in (own, *own.parents) if group.is_relative_to(_ROOT))
