"""What a study would run, as text."""

import dataclasses
from collections.abc import Sequence

from trainers.config import RunConfig, flag_text
from trainers.scheduling.ledger import RunFolders, State
from trainers.scheduling.plan import INCIDENTAL, PlannedRun
from zoo.study import Printed, Study

MARK = "†"

_WHAT_IT_WILL_DO = {
    State.MISSING: "run",
    State.STOPPED: "resume",
    State.BUSY: "wait for it: another process has it",
    State.FINISHED: "skip: finished",
}


def table(study: Study, runs: Sequence[PlannedRun], folders: RunFolders) -> str:
    """The runs, what each sets, the report's grader of it, and what would be done; then what all of them share."""
    varied = _varied(runs)
    rows = [["run", *varied, "report's grader", "will"]]
    for run in runs:
        printed = study.variant(run.variant).printed
        values = [flag_text(getattr(run.config, name)) for name in varied]
        will = _WHAT_IT_WILL_DO[folders.find(run.config).state]
        rows.append([run.label, *values, as_printed(printed), will])
    shared = {
        field.name: flag_text(getattr(runs[0].config, field.name)) or "by default"
        for field in dataclasses.fields(RunConfig)
        if field.name not in (*varied, *INCIDENTAL)
    }
    marked = any(MARK in row[-2] for row in rows)
    note = f"{MARK} as printed; it is not semseg − depth\n" if marked else ""
    return f"{_aligned(rows)}\n{note}\nshared: {', '.join(f'{name} {value}' for name, value in shared.items())}"


def as_printed(printed: Printed | None) -> str:
    """The report's grader as it stands there, marked where it does not add up."""
    if printed is None:
        return "–"
    return printed.grader if printed.adds_up else f"{printed.grader} {MARK}"


def _varied(runs: Sequence[PlannedRun]) -> list[str]:
    """The settings in which the runs differ."""
    names = [field.name for field in dataclasses.fields(RunConfig) if field.name not in INCIDENTAL]
    return [name for name in names if len({getattr(run.config, name) for run in runs}) > 1]


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
