"""Runs a study: `python -m trainers.study task_weights`.

Runs what has not run yet, skips what has, under whatever study, goes on with what was cut off, and records what fails.
Start the same command again after a stop; an interrupted study exits with status 75. Every flag of a run overrides the
study's own settings, but for `--pretrained`, which names the weights of those runs that the study pretrains. What a
study scales, such as the epochs of larger batches, it scales from the flag's value.

`trainers.report` shows what the last command of a study and recipe asked for; runs of other flags stay where they are.
"""

import dataclasses
import shlex
from pathlib import Path

from absl import flags

from mtl_keras.data.streets import Streets
from mtl_keras.errors import UserError
from trainers import cli
from trainers.config import RunConfig
from trainers.scheduling import listing
from trainers.scheduling.engines import make_engine
from trainers.scheduling.ledger import Ledger, RunFolders, ledger_folder, refuse_namesake
from trainers.scheduling.plan import PlannedRun, plan
from trainers.scheduling.queue import Queue
from trainers.scheduling.view import View
from zoo.recipes import RECIPES
from zoo.study import read_study, studies

FLAGS = flags.FLAGS

# A study names its runs itself.
cli.define_flags(RunConfig, [field.name for field in dataclasses.fields(RunConfig) if field.name != "name"])
flags.DEFINE_integer("seeds", 1, "runs of each variant, with seeds from --seed on", lower_bound=1)
flags.DEFINE_bool("dry_run", False, "list the runs and their settings, and run nothing")
flags.DEFINE_string("on", "local", "what runs them: local, one after the other, or ray, or ray://ADDRESS")
flags.DEFINE_float("cpus_per_run", 1.0, "CPUs of a run on Ray", lower_bound=0)
flags.DEFINE_float("gpus_per_run", 0.0, "GPUs of a run on Ray", lower_bound=0)

DEFAULT_RECIPE = "report"


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        raise UserError(f"study: give one, {', '.join(studies())} or a .toml file")
    for name in ("cpus_per_run", "gpus_per_run"):
        if FLAGS.on == "local" and FLAGS[name].present:
            raise UserError(f"{name}: is for Ray; add --on=ray, or leave it out")
    given = cli.given_flags(RunConfig)
    recipe = given.pop("recipe", DEFAULT_RECIPE)
    if recipe not in RECIPES:
        raise UserError(f"recipe: '{recipe}' is unknown; use one of {', '.join(RECIPES)}")
    study = read_study(arguments[0])
    runs = plan(study, recipe, given, FLAGS.seeds)
    console = cli.console()
    runs_dir = Path(runs[0].config.runs_dir)
    folders = RunFolders(runs_dir)
    title = f"{study.title} ({study.report})" if study.report else study.title
    console.print(f"{title} · recipe {recipe} · {len(runs)} runs")
    if FLAGS.dry_run:
        console.print(listing.table(study, runs, folders))
        return 0
    _check_crops(runs)
    folder = ledger_folder(runs_dir, study.name, recipe)
    refuse_namesake(study, folder)
    engine = make_engine(FLAGS.on, FLAGS.cpus_per_run, FLAGS.gpus_per_run)
    status = Queue(
        Ledger.of(study, recipe, runs), folder, runs, folders, engine, View(study.name, console, folder)
    ).run()
    for path, why in folders.unreadable.items():
        console.print(f"{path}: passed over: {why}")
    console.print(_next_step(status, arguments[0], str(runs_dir)))
    return status


def _check_crops(runs: list[PlannedRun]) -> None:
    """Refuses at once what every run on rendered scenes would, one after the other."""
    sizes = {f"streets/{name}": config.size for name, config in Streets.builder_configs.items()}
    sizes["streets"] = sizes["streets/demo"]
    for config in (run.config for run in runs):
        height, width = sizes.get(config.dataset, config.crop)
        if config.crop[0] > height or config.crop[1] > width:
            raise UserError(
                f"crop: {config.crop[0]},{config.crop[1]} is larger than the scenes of {config.dataset}, "
                f"{height},{width}; give --recipe=study, or --dataset=streets/full"
            )


def _next_step(status: int, study: str, runs_dir: str) -> str:
    if status == cli.EXIT_STOPPED:
        return "start the same command again to go on"
    if status:
        return "mend what failed and start the same command again; finished runs stay as they are"
    where = [] if runs_dir == RunConfig.runs_dir else [f"--runs_dir={runs_dir}"]
    return f"tables and figures: python -m trainers.report {shlex.join([study, *where])}"


if __name__ == "__main__":
    cli.launch(main, takes_arguments=True)
