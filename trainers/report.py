"""Makes tables and figures of studies: `python -m trainers.report task_weights`; of all that were run without a name.

What the runs came to is copied from their folders to `<out>/<study>/runs/` first: settings and metrics, no weights.
Where there are no runs the copies that lie there are used, so that anybody can make the same pages again of them.
Without --out, that is `<runs_dir>/report` where studies were run, and else `docs/studies`, the project's own.
"""

from pathlib import Path

from absl import flags

from mtl_keras.errors import UserError
from trainers import cli
from trainers.reporting import study_page
from trainers.reporting.results import METRICS, collect, default_out, find_ledger, read_copies
from trainers.reporting.statistics import pooled_noise
from trainers.scheduling.ledger import LEDGER
from zoo.study import Study, read_ladders, read_study, studies

FLAGS = flags.FLAGS

flags.DEFINE_string("out", None, "folder of the pages, the figures and the copies of the runs; see above")
flags.DEFINE_string("runs_dir", "runs", "where the runs are")
flags.DEFINE_string("recipe", None, "which recipe's runs, where a study was run with several")


def main(arguments: list[str]) -> None:
    runs_dir = Path(FLAGS.runs_dir)
    out = Path(FLAGS.out) if FLAGS.out else default_out(runs_dir)
    known = [study for study in map(read_study, studies()) if is_there(study, runs_dir, out, FLAGS.recipe)]
    asked = [read_study(name) for name in arguments] or known
    if not asked:
        raise UserError(f"no study was run in {runs_dir}, and none lies in {out}; run trainers.study first")
    names = {study.name for study in asked}
    results = [collect(study, runs_dir, out, FLAGS.recipe) for study in asked]
    if copies := [study.name for study in asked if find_ledger(study, runs_dir, FLAGS.recipe) is None]:
        print(f"of copies in {out}, for there are no runs in {runs_dir}: {', '.join(copies)}")
    # Seeds of the other studies tell of the noise too, and the page above lists all.
    others = [read_there(study, out) for study in known if study.name not in names]
    everything = [*results, *(other for other in others if other is not None)]
    everything.sort(key=lambda one: studies().index(one.study.name) if one.study.name in studies() else len(studies()))
    noises = {}
    for recipe in dict.fromkeys(one.recipe for one in everything):
        alike = [one for one in everything if one.recipe == recipe]
        noises[recipe] = {metric: pooled_noise(alike, metric) for metric in METRICS}
    for result in results:
        for path in study_page.write_study(result, noises[result.recipe], out):
            print(path)
    for path in study_page.write_overview(everything, read_ladders(), noises, out):
        print(path)


def is_there(study: Study, runs_dir: Path, out: Path, recipe: str | None) -> bool:
    """Whether anything is known of a study's runs, with a recipe or with any."""
    if any((runs_dir / "studies" / study.name).glob(f"{recipe or '*'}/{LEDGER}")):
        return True
    copies = read_there(study, out)
    return copies is not None and recipe in (None, copies.recipe)


def read_there(study: Study, out: Path):
    """A study's copies, if there are any."""
    folder = out / study.name / "runs"
    return read_copies(study, folder) if any(folder.glob("*/config.json")) else None


if __name__ == "__main__":
    cli.launch(main, takes_arguments=True)
