"""Why a run died, in one line, from its exit status and its log."""

import re
import signal
from pathlib import Path

from trainers.scheduling.engines import SITTING

_NO_MEMORY = re.compile(r"RESOURCE_EXHAUSTED|out of memory|OutOfMemory|OOM when|MemoryError|Unable to allocate", re.I)
_NOT_A_NUMBER = re.compile(r"\bnan\b|not a number|not finite|non-finite", re.I)
_REMEDY = "lower --batch_size, and raise --accumulate by the same factor"
_TAIL = 64 * 1024


def reason(status: int, log: Path) -> str:
    """Why a run ended.

    Args:
        status: its exit status, −n for signal n.
        log: its output.
    """
    lines = _tail(log)
    if status == -signal.SIGKILL:
        return f"killed, most likely for want of memory; {_REMEDY}"
    if status < 0:
        return f"ended by signal {-status} ({signal.strsignal(-status)})"
    told = next((line.removeprefix("error: ") for line in reversed(lines) if line.startswith("error: ")), None)
    if told:
        return told
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt|Exhausted)\b", line)]
    last = _short(errors[-1] if errors else lines[-1] if lines else f"exit status {status}")
    if any(_NO_MEMORY.search(line) for line in lines[-40:]):
        return f"out of memory; {_REMEDY} ({last})"
    if _NOT_A_NUMBER.search(last):
        return f"not a number ({last})"
    return last


def _tail(log: Path) -> list[str]:
    """The last lines of a log's last sitting that say something."""
    try:
        with open(log, "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    text = text.rpartition(SITTING)[2].partition("\n")[2]
    return [line.strip() for line in text.splitlines() if line.strip()]


def _short(line: str) -> str:
    return line if len(line) <= 160 else f"{line[:159]}…"
