"""How a study's progress looks: a table that is alive in a terminal, a line for each event anywhere else."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from trainers.scheduling.ledger import rank, validation

if TYPE_CHECKING:
    from trainers.scheduling.queue import Entry

_COLORS = {"running": "cyan", "finished": "green", "failed": "red", "cut off": "yellow", "in another process": "cyan"}
_LEFT = ("waiting", "in another process")


class View:
    """Shows the runs of a study.

    Args:
        title: what stands above them.
        console: where to.
        folder: where the runs' logs are, for the line that tells of one.
    """

    def __init__(self, title: str, console: Console, folder: object):
        self.title = title
        self.console = console
        self.folder = folder
        self._entries: Sequence[Entry] = ()
        self._seconds_left: float | None = None
        self._live: Live | None = None

    def __enter__(self) -> "View":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def start(self, entries: Sequence["Entry"]) -> None:
        self._entries = entries
        if self.console.is_terminal:
            self._live = Live(self._table(), console=self.console, refresh_per_second=2)
            self._live.start()
            return
        self.console.print(f"{self.title}: {counts(entries)} · logs in {self.folder}")

    def show(self, seconds_left: float | None) -> None:
        self._seconds_left = seconds_left
        if self._live is not None:
            self._live.update(self._table())

    def tell(self, entry: "Entry", event: str = "") -> None:
        """Tells what happened to a run."""
        if self._live is not None:
            return
        place = 1 + list(self._entries).index(entry)
        what = event or str(entry.stage)
        if entry.reason:
            what += f": {entry.reason}"
        elif entry.best and not event:
            what += f" · {figures(entry.best)} · {duration(entry.seconds)}"
        rest = "" if event else f" · {self._summary()}"
        self.console.print(f"[{place}/{len(self._entries)}] {entry.label}: {what}{rest}", markup=False)

    def end(self) -> None:
        self.show(0.0)
        if self._live is None:
            self.console.print(f"{self.title}: {self._summary()}")

    def _summary(self) -> str:
        parts = [counts(self._entries)]
        if self._seconds_left and any(entry.epochs_left for entry in self._entries):
            parts.append(f"{duration(self._seconds_left)} to go")
        done = [(entry.best, entry.label) for entry in self._entries if entry.best and entry.stage != "failed"]
        if done:
            best, label = max(done, key=lambda run: rank(run[0]))
            parts.append(f"best so far {label}: {figures(best)}")
        return " · ".join(parts)

    def _table(self) -> Group:
        table = Table(title=self.title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for name in ("run", "state", "epoch", "grader", "mIoU %", "SI-logRMSE", "time"):
            table.add_column(name, justify="left" if name in ("run", "state") else "right")
        for entry in self._entries:
            best = validation(entry.best) if entry.best else None
            table.add_row(
                entry.label,
                Text(entry.reason or str(entry.stage), style=_COLORS.get(str(entry.stage), "dim")),
                f"{len(entry.rows)}/{entry.run.config.epochs}",
                *(f"{best[name]:.2f}" if best else "" for name in ("grader", "miou", "silog")),
                duration(entry.seconds) if entry.rows else "",
            )
        return Group(table, Text(self._summary(), style="bold"))


def counts(entries: Sequence["Entry"]) -> str:
    """How many runs are at which stage, such as "3 finished, 1 running, 4 left"."""
    stages = Counter(str(entry.stage) for entry in entries)
    left = sum(stages[stage] for stage in _LEFT)
    parts = [f"{stages['finished']} finished", f"{stages['running']} running", f"{left} left"]
    parts += [f"{stages[stage]} {stage}" for stage in ("failed", "cut off") if stages[stage]]
    return ", ".join(parts)


def figures(row: dict[str, float]) -> str:
    values = validation(row)
    return f"grader {values['grader']:.2f}, mIoU {values['miou']:.2f} %, SI-logRMSE {values['silog']:.2f}"


def duration(seconds: float) -> str:
    """Seconds as the report writes them, such as 7h18m29s."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
