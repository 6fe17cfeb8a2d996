"""Trains a model: `python -m trainers.fit --arch branched`.

A recipe overrides the defaults of the flags, and a flag its recipe; `config.json` in the run's folder has what
holds. Datasets have the recipe report, `streets` itself demo.

The first line tells what runs where; then comes a line for each epoch. Everything lands in the run's folder. A run
that SIGTERM or SIGINT stopped exits with status 75 and goes on with `--resume`.

A loss that is not finite stops the run with status 65 and one line that names the first bad step, its images and the
layer where it began; the state before that step is saved. With `--on_nan=rollback` the run goes back to that state and
on behind the bad batch, up to five times a process. With `--on_nan=skip` such a step changes nothing, and each epoch
says how many there were.

A resumed run keeps its settings, but for where its data lies (--data_dir, --prepared_dir), how it is read (--cache,
--cache_dir, --workers), and --on_nan=stop or rollback. Data of other classes, depth or numbers of images than it began
with is refused.
"""

import dataclasses
from pathlib import Path
from typing import Any

from absl import flags

from mtl_keras.backend import Parallel
from mtl_keras.errors import UserError
from trainers import cli, devices, training
from trainers.config import PLACES, RunConfig, from_settings, read_config
from trainers.run_folder import newest_like, open_run

FLAGS = flags.FLAGS
# --help prints it above the flags.
__doc__ = f"{__doc__}\n{cli.recipes_help()}\n"

cli.define_flags(RunConfig)
flags.DEFINE_string("resume", None, "a run's folder, or auto for the newest of these settings: go on where it stopped")
flags.DEFINE_string("config", None, "a run's folder or config.json: start the same run again")
flags.DEFINE_string("devices", "1", "how many of this process's devices share every batch, or all")
flags.DEFINE_string("coordinator", None, "several processes: HOST:PORT of process 0, or auto under Slurm and Open MPI")
flags.DEFINE_integer("processes", None, "several processes: how many they are", lower_bound=1)
flags.DEFINE_integer("process_id", None, "several processes: which one this is, from 0", lower_bound=0)
flags.DEFINE_bool("sync_batch_norm", True, "several devices: batch norm over the global batch; always so under JAX")


def main(arguments: list[str]) -> None:
    del arguments
    parallel = devices.from_flags()
    with devices.failing_at_once():
        _train(parallel)


def _train(parallel: Parallel) -> None:
    given = cli.given_flags(RunConfig)
    if FLAGS.resume is not None and FLAGS.config is not None:
        raise UserError("resume: a run that goes on has its own configuration; leave --config out")
    if FLAGS.resume == "auto":
        config = from_settings(given)
        training.resume(newest_like(config), config, parallel)
    elif FLAGS.resume is not None:
        run, config = open_run(FLAGS.resume)
        training.resume(run, _changed(config, given), parallel)
    elif FLAGS.config is not None:
        if "recipe" in given:
            raise UserError("recipe: a configuration has its own; leave one of --config and --recipe out")
        path = Path(FLAGS.config)
        training.start(read_config(path / "config.json" if path.is_dir() else path), given, parallel)
    else:
        training.start(from_settings(given), {}, parallel)


def _changed(config: RunConfig, given: dict[str, Any]) -> RunConfig:
    """A resumed run's configuration with what may have changed since; raises `UserError` for what may not."""
    allowed = {*PLACES}
    # Both keep the same state.
    if {config.on_nan, given.get("on_nan")} <= {"stop", "rollback"}:
        allowed.add("on_nan")
    if other := [name for name in given if name not in allowed]:
        raise UserError(
            f"{other[0]}: a resumed run keeps its own settings; leave the flag out, or start a run with --init_from"
        )
    return dataclasses.replace(config, **given)


if __name__ == "__main__":
    cli.launch(main)
