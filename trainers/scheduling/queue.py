"""The queue of a study: starts what is left, follows what runs, and records what became of it."""

import contextlib
import dataclasses
import enum
import signal
import time
from collections import Counter
from pathlib import Path

from mtl_keras.errors import UserError
from mtl_keras.files import write_text
from trainers.cli import EXIT_SOME_FAILED, EXIT_STOPPED, EXIT_USER_ERROR
from trainers.run_folder import BUSY
from trainers.scheduling import failures
from trainers.scheduling.engines import Engine, Job
from trainers.scheduling.ledger import (
    Ledger,
    Rows,
    RunFolders,
    State,
    became_nan,
    best_row,
    claimed,
    rows_of,
)
from trainers.scheduling.plan import PlannedRun, identity
from trainers.scheduling.view import View

# So many runs refused in the same words say that the others would be too.
ENOUGH_REFUSED = 2
POLL_SECONDS = 0.5
# How often a run that another process has is looked at.
ELSEWHERE_SECONDS = 5.0


class Stage(enum.StrEnum):
    """Where a run of the queue is."""

    WAITING = "waiting"
    ELSEWHERE = "in another process"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "cut off"


@dataclasses.dataclass
class Entry:
    """A run of the queue."""

    run: PlannedRun
    stage: Stage = Stage.WAITING
    rows: Rows = dataclasses.field(default_factory=list)
    reason: str = ""
    looked_at: float = 0.0
    claim: contextlib.ExitStack = dataclasses.field(default_factory=contextlib.ExitStack)

    @property
    def label(self) -> str:
        return self.run.label

    @property
    def seconds(self) -> float:
        return self.rows[-1]["seconds"] if self.rows else 0.0

    @property
    def best(self) -> dict[str, float] | None:
        return best_row(self.rows) if self.rows else None

    @property
    def epochs_left(self) -> int:
        done = self.stage in (Stage.FINISHED, Stage.FAILED)
        return 0 if done else max(0, self.run.config.epochs - len(self.rows))


class Queue:
    """Runs the runs of a study.

    Args:
        ledger: what the study asks for; failures are written to it.
        folder: where the ledger, and the configurations and logs of the runs, go.
        runs: the runs.
        folders: the run folders that there are.
        engine: what runs them.
        view: what shows their progress.
    """

    def __init__(
        self, ledger: Ledger, folder: Path, runs: list[PlannedRun], folders: RunFolders, engine: Engine, view: View
    ):
        self.ledger = ledger
        self.folder = folder
        self.folders = folders
        self.engine = engine
        self.view = view
        self.entries = [Entry(run) for run in runs]
        self._by_label = {entry.label: entry for entry in self.entries}
        self._signals = 0
        self._stops = 0
        self._refused: Counter[str] = Counter()

    def run(self) -> int:
        """Runs what is left, and returns the exit status: 75 after a signal, 1 after a failure, else 0.

        Once two runs were refused in the same words, such as for an encoder that is not to be had, no more are started.
        """
        self._remember_failures()
        self.ledger.write(self.folder)
        for entry in self.entries:
            self._skip_if_finished(entry)
        with self._catching_signals(), self._engine_at_work(), self.view:
            self.view.start(self.entries)
            while self._goes_on():
                self._start()
                self._pass_signals_on()
                time.sleep(POLL_SECONDS)
                self._collect()
                self._follow()
                self.view.show(self.seconds_left())
            self.view.end()
        stages = {entry.stage for entry in self.entries}
        if self._signals or Stage.STOPPED in stages:
            return EXIT_STOPPED
        return EXIT_SOME_FAILED if Stage.FAILED in stages else 0

    def seconds_left(self) -> float | None:
        """How long the rest will take, by the epochs of all runs so far; None before the first."""
        timed = [entry for entry in self.entries if entry.rows]
        if not timed:
            return None
        usual = sum(entry.seconds for entry in timed) / sum(len(entry.rows) for entry in timed)
        left = sum(
            entry.epochs_left * (entry.seconds / len(entry.rows) if entry.rows else usual) for entry in self.entries
        )
        return left / max(1, self._count(Stage.RUNNING))

    def _goes_on(self) -> bool:
        if self._count(Stage.RUNNING):
            return True
        return self._may_start() and bool(self._count(Stage.WAITING) or self._count(Stage.ELSEWHERE))

    def _may_start(self) -> bool:
        return not self._signals and max(self._refused.values(), default=0) < ENOUGH_REFUSED

    def _count(self, stage: Stage) -> int:
        return sum(entry.stage is stage for entry in self.entries)

    def _remember_failures(self) -> None:
        """Takes over why runs have failed, as long as they are not started again."""
        with contextlib.suppress(UserError):  # where there is no ledger yet
            before = Ledger.read(self.folder)
            reasons = {identity(run.config): before.failures.get(run.label) for run in before.runs.values()}
            for entry in self.entries:
                if reason := reasons.get(identity(entry.run.config)):
                    self.ledger.failures[entry.label] = reason

    def _skip_if_finished(self, entry: Entry) -> None:
        found = self.folders.find(entry.run.config)
        if found.state is State.FINISHED:
            self._settle(entry, found.folder)

    def _start(self) -> None:
        for entry in self.entries:
            if not self._may_start() or self._count(Stage.RUNNING) >= self.engine.slots:
                return
            if entry.stage is Stage.WAITING or self._is_due(entry):
                self._start_one(entry)

    def _is_due(self, entry: Entry) -> bool:
        return entry.stage is Stage.ELSEWHERE and time.monotonic() - entry.looked_at > ELSEWHERE_SECONDS

    def _start_one(self, entry: Entry) -> None:
        entry.looked_at = time.monotonic()
        claim = entry.claim.enter_context(claimed(self.folders.path, entry.run.config))
        if claim is None:
            self._leave_to_other(entry)
            return
        found = self.folders.find(entry.run.config)
        if found.state is State.FINISHED:
            self._settle(entry, found.folder)
            self.view.tell(entry)
            return
        if found.state is State.BUSY:
            self._leave_to_other(entry)
            return
        if found.state is State.STOPPED and found.folder is not None:
            arguments = ("-m", "trainers.fit", f"--resume={found.folder.path}")
            entry.rows = rows_of(found.folder)
        else:
            # The same study may be started with other flags while this run has not read its file yet.
            config = self.folder / f"{entry.label}.{identity(entry.run.config)}.json"
            write_text(config, entry.run.config.to_json())
            arguments = ("-m", "trainers.fit", f"--config={config}")
        entry.stage, entry.reason = Stage.RUNNING, ""
        if self.ledger.failures.pop(entry.label, None):
            self.ledger.write(self.folder)
        self.engine.start(Job(entry.label, arguments, self._log(entry), claim))
        self.view.tell(entry, "resumed" if found.state is State.STOPPED else "started")

    def _leave_to_other(self, entry: Entry) -> None:
        entry.claim.close()
        if entry.stage is not Stage.ELSEWHERE:
            entry.stage = Stage.ELSEWHERE
            self.view.tell(entry)

    def _follow(self) -> None:
        """Reads how far the running ones are."""
        for entry in self.entries:
            if entry.stage is Stage.RUNNING:
                run = self.folders.under_way(entry.run.config)
                if run is not None and run.metrics.is_file():
                    entry.rows = rows_of(run)

    def _collect(self) -> None:
        for job, status in self.engine.ended():
            entry = self._by_label[job.label]
            self._follow()
            found = self.folders.find(entry.run.config)
            if status == 0 and found.folder is not None:
                self._settle(entry, found.folder)
            elif self._signals or status == EXIT_STOPPED:
                entry.stage = Stage.STOPPED
            else:
                self._judge(entry, status)
            entry.claim.close()
            self.view.tell(entry)

    def _settle(self, entry: Entry, run) -> None:
        """Books a run that has ended by itself."""
        entry.claim.close()
        entry.rows = rows_of(run)
        entry.reason = became_nan(entry.rows) or ""
        entry.stage = Stage.FAILED if entry.reason else Stage.FINISHED
        self._book(entry)

    def _judge(self, entry: Entry, status: int) -> None:
        """Books a run that died."""
        why = failures.reason(status, self._log(entry))
        if BUSY in why:
            entry.stage = Stage.ELSEWHERE
            return
        if status == EXIT_USER_ERROR:
            self._refused[why] += 1
        entry.stage, entry.reason = Stage.FAILED, became_nan(entry.rows) or why
        self._book(entry)

    def _book(self, entry: Entry) -> None:
        before = self.ledger.failures.pop(entry.label, None)
        if entry.reason:
            self.ledger.failures[entry.label] = entry.reason
        if before != (entry.reason or None):
            self.ledger.write(self.folder)

    def _log(self, entry: Entry) -> Path:
        return self.folder / f"{entry.label}.log"

    def _pass_signals_on(self) -> None:
        while self._stops < self._signals:
            self._stops += 1
            self.engine.stop()

    @contextlib.contextmanager
    def _engine_at_work(self):
        try:
            yield
        except BaseException:
            # Its runs are processes of their own, which would go on without a study.
            self.engine.stop()
            raise
        finally:
            self.engine.close()

    @contextlib.contextmanager
    def _catching_signals(self):
        def catch(number, frame) -> None:
            del number, frame
            self._signals += 1

        before = {number: signal.signal(number, catch) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
