"""What the runs of a study came to: read in their folders, or in the copies that a report keeps of them.

A copy, `<out>/<study>/runs/<label>/`, holds a run's `config.json`, its `metrics.csv` and, in `run.json`, what else a
table shows of it. Tables are always made of the copies, so that they come out the same wherever they are made again.
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path

import safetensors

from mtl_keras.errors import UserError
from mtl_keras.files import read_values, write_bytes, write_json, write_text
from trainers.config import RunConfig, read_config
from trainers.portable import with_names_of_weights
from trainers.run_folder import RunFolder
from trainers.scheduling.ledger import (
    LEDGER,
    Ledger,
    Rows,
    RunFolders,
    State,
    became_nan,
    best_row,
    ledger_folder,
    rows_of,
    validation,
)
from trainers.scheduling.plan import INCIDENTAL, PlannedRun, identity
from zoo.study import Study

FACTS = "run.json"
# Where the project's own pages lie, below its folder.
PROJECTS_OWN = "docs/studies"
METRICS = ("grader", "miou", "silog", "difference")

_NOT_TRAINED = ("moving_mean", "moving_variance")
_MACHINE = re.compile(r" epochs? in [^(]+ \((.+)\)\.$", re.M)


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a table shows of a run beside its settings and metrics.

    Args:
        variant: the study's variant.
        seed: its seed.
        recipe: what the study's runs started from.
        state: finished, or what it was when the report was made.
        run: the name of its folder, or None.
        parameters: trainable parameters, or None before its first checkpoint.
        machine: backend and device, or None before it finished.
        failure: why it failed, or None.
    """

    variant: str
    seed: int
    recipe: str
    state: str
    run: str | None = None
    parameters: int | None = None
    machine: str | None = None
    failure: str | None = None


@dataclasses.dataclass(frozen=True)
class Result:
    """A run and what it came to."""

    facts: Facts
    config: RunConfig
    rows: Rows

    @property
    def counts(self) -> bool:
        """Whether its figures may be compared: it ran to its end, and they are numbers."""
        return self.facts.state == State.FINISHED and not self.facts.failure and bool(self.rows)

    @property
    def metrics(self) -> dict[str, float]:
        """Validation metrics of the weights that the run keeps; `difference` is the grader before it is clamped."""
        values = validation(self._best)
        return {**values, "difference": values["miou"] - values["silog"]}

    @property
    def epoch(self) -> int:
        return int(self._best["epoch"])

    @property
    def _best(self) -> dict[str, float]:
        return best_row(self.rows)

    @property
    def seconds(self) -> float:
        return self.rows[-1]["seconds"]


@dataclasses.dataclass(frozen=True)
class StudyResults:
    """A study, and all of its runs in its order, seed by seed."""

    study: Study
    recipe: str
    results: tuple[Result, ...]

    def of(self, variant: str) -> list[Result]:
        """The runs of a variant that may be compared."""
        return [result for result in self.results if result.facts.variant == variant and result.counts]

    def values(self, variant: str, metric: str) -> list[float]:
        """A metric of each of these runs, but for those that nothing was measured of."""
        values = [result.metrics[metric] for result in self.of(variant)]
        return [value for value in values if math.isfinite(value)]


def collect(study: Study, runs_dir: Path, out: Path, recipe: str | None) -> StudyResults:
    """Copies what the runs of a study came to, where there are any, and reads the copies.

    Args:
        study: the study.
        runs_dir: where its runs are, if anywhere.
        out: where the report's studies lie; the copies are below it.
        recipe: which of the study's recipes; needed only where it was run with several.

    Raises:
        UserError: no runs and no copies, several recipes, or a run that is half-written.
    """
    folder = out / study.name / "runs"
    found = find_ledger(study, runs_dir, recipe)
    if found is not None:
        copy(study, Ledger.read(found), RunFolders(runs_dir), folder)
    elif not folder.is_dir():
        raise UserError(f"{study.name}: not run yet, in {runs_dir}; run `python -m trainers.study {study.path}` first")
    results = read_copies(study, folder)
    if recipe is not None and results.recipe != recipe:
        raise UserError(
            f"{folder}: runs of the recipe '{results.recipe}', not '{recipe}'; give another --recipe or --out"
        )
    return results


def find_ledger(study: Study, runs_dir: Path, recipe: str | None) -> Path | None:
    """The folder of a study's ledger, or None; raises `UserError` where a recipe must be chosen."""
    recipes = sorted(path.parent.name for path in ledger_folder(runs_dir, study.name, "*").parent.glob(f"*/{LEDGER}"))
    if recipe is not None:
        recipes = [name for name in recipes if name == recipe]
    if len(recipes) > 1:
        raise UserError(f"recipe: {study.name} was run with {' and '.join(recipes)}; choose one of them with --recipe")
    return ledger_folder(runs_dir, study.name, recipes[0]) if recipes else None


def copy(study: Study, ledger: Ledger, folders: RunFolders, out: Path) -> None:
    """Copies of every run that the study asks for what a table needs.

    All of it is checked before anything is written. The copy of a finished run gives way to another finished run
    alone; that of any run stays where the run itself is gone.

    Raises:
        UserError: a run that is half-written, runs that do not belong together, or a finished copy of other settings
            in the place of a run that has not finished.
    """
    results = [_read_copy(path.parent) for path in out.glob("*/config.json") if path.parent.name not in ledger.runs]
    fresh: list[tuple[Result, Path, RunFolder | None]] = []
    for run in ledger.runs.values():
        found, where = folders.find(run.config), out / run.label
        rows = [] if found.folder is None else rows_of(found.folder)
        new = Result(_facts(run, ledger, found.state, found.folder), with_names_of_weights(run.config), rows)
        old = _old_copy(where)
        if old is not None and _stays(old, new, where):
            results.append(old)
        else:
            fresh.append((new, where, found.folder))
    _check_copies(study, [*results, *(new for new, _, _ in fresh)], out)
    for new, where, folder in fresh:
        _write_copy(new, where, folder)


def _old_copy(where: Path) -> Result | None:
    """The copy that lies somewhere; None where there is none that is whole."""
    try:
        return _read_copy(where)
    except UserError:
        return None


def _stays(old: Result, new: Result, where: Path) -> bool:
    """Whether an old copy is worth more than what is there now."""
    if new.facts.state == State.FINISHED:
        return False
    if identity(old.config) == identity(new.config):
        return old.facts.state == State.FINISHED or new.facts.run is None and bool(old.rows)
    if old.facts.state == State.FINISHED:
        raise UserError(
            f"{where}: holds a finished run of other settings, and this one is {new.facts.failure or new.facts.state}; "
            "finish the study first, or give another --out"
        )
    return False


def _write_copy(result: Result, where: Path, folder: RunFolder | None) -> None:
    if result.rows and folder is not None:
        write_bytes(where / "metrics.csv", folder.metrics.read_bytes())
    else:
        (where / "metrics.csv").unlink(missing_ok=True)
    write_text(where / "config.json", result.config.to_json())
    write_json(where / FACTS, dataclasses.asdict(result.facts))


def default_out(runs_dir: Path) -> Path:
    """A folder of one's own where studies were run, so that their runs do not meet those of the project."""
    return runs_dir / "report" if any((runs_dir / "studies").glob(f"*/*/{LEDGER}")) else Path(PROJECTS_OWN)


def read_copies(study: Study, folder: Path) -> StudyResults:
    """The copies of a study's runs.

    Raises:
        UserError: a copy that is half-written, of a variant that the study lacks, or of another recipe.
    """
    results = [_read_copy(path.parent) for path in sorted(folder.glob("*/config.json"))]
    if not results:
        raise UserError(f"{folder}: no runs in it; run `python -m trainers.study {study.path}` first")
    _check_copies(study, results, folder)
    order = [variant.name for variant in study.variants]
    results.sort(key=lambda result: (order.index(result.facts.variant), result.facts.seed))
    return StudyResults(study, results[0].facts.recipe, tuple(results))


def _check_copies(study: Study, results: Sequence[Result], folder: Path) -> None:
    """Raises `UserError` unless all runs are of the study, of one recipe, and alike in what the study does not vary."""
    for result in results:
        study.variant(result.facts.variant)
    recipes = sorted({result.facts.recipe for result in results})
    if len(recipes) > 1:
        odd = next(result.facts for result in results if result.facts.recipe == recipes[-1])
        raise UserError(
            f"{folder}: '{odd.variant}' is of the recipe '{recipes[-1]}', others of '{recipes[0]}'; "
            "remove the runs of one of them"
        )
    _check_alike(study, results, folder)


def _check_alike(study: Study, results: Sequence[Result], folder: Path) -> None:
    """Raises `UserError` unless all runs agree in what the study does not vary, and all seeds of a variant in all."""
    varied = {name for variant in study.variants for name in (*variant.settings, *variant.scale)}
    first: dict[str, Result] = {}
    for result in results:
        other = first.setdefault(result.facts.variant, result)
        for name, value in vars(result.config).items():
            against = other if name in varied else results[0]
            if name not in (*INCIDENTAL, "seed") and value != getattr(against.config, name):
                raise UserError(
                    f"{folder}: runs with {name} {getattr(against.config, name)} and {value} in one study; "
                    "remove those that do not belong, or give another --out"
                )


def _read_copy(folder: Path) -> Result:
    config = read_config(folder / "config.json")
    try:
        facts = Facts(**read_values(folder / FACTS))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder / FACTS}: cannot be read ({error}); run trainers.report where the run is") from None
    rows = rows_of(RunFolder(folder))
    if facts.state == State.FINISHED and not rows:
        raise UserError(f"{folder}: half-written, it has no metrics.csv; run trainers.report where the run is")
    return Result(facts, config, rows)


def _facts(run: PlannedRun, ledger: Ledger, state: State, folder: RunFolder | None) -> Facts:
    facts = Facts(run.variant, run.seed, ledger.recipe, str(state), failure=ledger.failures.get(run.label))
    if folder is None:
        return facts
    return dataclasses.replace(
        facts,
        run=folder.path.name,
        parameters=trainable_parameters(folder),
        machine=machine_of(folder),
        # A run that failed once may have been mended since.
        failure=became_nan(rows_of(folder)) or (None if state is State.FINISHED else facts.failure),
    )


def trainable_parameters(run: RunFolder) -> int | None:
    """The number of trainable parameters of a run's best checkpoint; reads its header alone."""
    if not run.best.is_file():
        return None
    try:
        with safetensors.safe_open(run.best, framework="numpy") as file:
            names = [name for name in file.keys() if not name.endswith(_NOT_TRAINED)]  # noqa: SIM118
            return sum(math.prod(file.get_slice(name).get_shape()) for name in names)
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{run.best}: not a whole checkpoint ({error}); remove the run, or get it again") from None


def machine_of(run: RunFolder) -> str | None:
    """The backend and devices that a run's card names."""
    if not run.card.is_file():
        return None
    match = _MACHINE.search(run.card.read_text(encoding="utf-8"))
    return match[1] if match else None
