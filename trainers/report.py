"""Makes tables and figures of studies: `python -m trainers.report task_weights`; of all that were run without a name.

What the runs came to is copied from their folders to `<out>/<study>/runs/` first: settings and metrics, no weights.
Where there are no runs the copies that lie there are used, so that anybody can make the same pages again of them.
Without --out, that is `<runs_dir>/report` where studies were run, and else `docs/studies`, the project's own.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from mtl_keras.errors import UserError
from trainers import cli
from trainers.config import RunConfig
from trainers.reporting import study_page
from trainers.reporting.results import (
    METRICS,
    PROJECTS_OWN,
    StudyResults,
    collect,
    default_out,
    find_ledger,
    read_copies,
)
from trainers.reporting.statistics import pooled_noise
from trainers.scheduling.ledger import LEDGER, Ledger
from zoo.study import Study, read_ladders, read_study, studies

FLAGS = flags.FLAGS

flags.DEFINE_string("out", None, "folder of the pages, the figures and the copies of the runs; see above")
flags.DEFINE_string("runs_dir", RunConfig.runs_dir, "where the runs are")
flags.DEFINE_string("recipe", None, "which recipe's runs, where a study was run with several")


def main(arguments: list[str]) -> None:
    runs_dir = Path(FLAGS.runs_dir)
    out = Path(FLAGS.out) if FLAGS.out else default_out(runs_dir)
    every = [read_study(name) for name in [*studies(), *own_studies(runs_dir)]]
    copies = {study.name: read_there(study, out) for study in every}
    known = [study for study in every if is_there(study, runs_dir, copies[study.name], FLAGS.recipe)]
    asked = [read_study(name) for name in arguments] or known
    if not asked:
        raise UserError(f"no study was run in {runs_dir}, and none lies in {out}; run trainers.study first")
    names = {study.name for study in asked}
    results = [collect(study, runs_dir, out, FLAGS.recipe) for study in asked]
    if copied := [study.name for study in asked if find_ledger(study, runs_dir, FLAGS.recipe) is None]:
        print(f"of copies in {out}, for there are no runs in {runs_dir}: {', '.join(copied)}")
    # Seeds of the other studies tell of the noise too, and the page above lists all.
    others = [copies[study.name] for study in known if study.name not in names]
    everything = [*results, *(other for other in others if other is not None)]
    everything.sort(key=lambda one: studies().index(one.study.name) if one.study.name in studies() else len(studies()))
    noises = {}
    for recipe in dict.fromkeys(one.recipe for one in everything):
        alike = [one for one in everything if one.recipe == recipe]
        noises[recipe] = {metric: pooled_noise(alike, metric) for metric in METRICS}
    # The project's own pages, and those of copies of its runs, name no place of this machine.
    is_projects = out.resolve() == Path(PROJECTS_OWN).resolve()
    shown = [one.study for one in everything]
    here = [] if is_projects else [study.name for study in shown if is_file(study) or was_run(study, runs_dir)]
    for result in results:
        where = FLAGS.runs_dir if result.study.name in here else RunConfig.runs_dir
        for path in study_page.write_study(result, noises[result.recipe], out, where):
            print(path)
    again = command(shown, out) if here else study_page.REPORT
    for path in study_page.write_overview(everything, read_ladders(), noises, out, again):
        print(path)


def is_file(study: Study) -> bool:
    """Whether a study is one's own, and not one of the library's."""
    return study.path != study.name


def command(shown: Sequence[Study], out: Path) -> str:
    """The command that makes the pages of these studies again, whether their runs are still there or copies alone."""
    parts = [study.path for study in shown] if any(map(is_file, shown)) else []
    if FLAGS.runs_dir != RunConfig.runs_dir:
        parts.append(f"--runs_dir={FLAGS.runs_dir}")
    if out != default_out(Path(FLAGS.runs_dir)):
        parts.append(f"--out={out}")
    if FLAGS.recipe:
        parts.append(f"--recipe={FLAGS.recipe}")
    return " ".join([study_page.REPORT, *map(shlex.quote, parts)])


def own_studies(runs_dir: Path) -> list[str]:
    """The files of the studies of one's own that were run; one that is gone is told of."""
    ledgers = sorted((runs_dir / "studies").glob(f"*/*/{LEDGER}"))
    files = dict.fromkeys(path for path in (Ledger.read(ledger.parent).path for ledger in ledgers) if ".toml" in path)
    gone = [path for path in files if not Path(path).is_file()]
    for path in gone:
        print(f"{path}: is gone, so that its study is left out")
    return [path for path in files if path not in gone]


def is_there(study: Study, runs_dir: Path, copies: StudyResults | None, recipe: str | None) -> bool:
    """Whether anything is known of a study's runs, with a recipe or with any."""
    if was_run(study, runs_dir, recipe):
        return True
    return copies is not None and recipe in (None, copies.recipe)


def was_run(study: Study, runs_dir: Path, recipe: str | None = None) -> bool:
    """Whether a study's runs are in a place, those with a recipe or with any."""
    return any((runs_dir / "studies" / study.name).glob(f"{recipe or '*'}/{LEDGER}"))


def read_there(study: Study, out: Path) -> StudyResults | None:
    """A study's copies, if there are any; some that are not whole are told of."""
    folder = out / study.name / "runs"
    try:
        return read_copies(study, folder) if any(folder.glob("*/config.json")) else None
    except UserError as error:
        print(f"{study.name} is left out: {error}")
        return None


if __name__ == "__main__":
    cli.launch(main, takes_arguments=True)
