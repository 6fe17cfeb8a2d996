"""Trains a model: `python -m trainers.fit --arch branched`.

The first line tells what runs where; then comes a line for each epoch. Everything lands in the run's folder. A run
that SIGTERM or SIGINT stopped exits with status 75 and goes on with `--resume`.
"""

from absl import flags

from mtl_keras.errors import UserError
from trainers import cli
from trainers.config import RunConfig, from_settings, read_config
from trainers.run_folder import newest_like, open_run

FLAGS = flags.FLAGS

cli.define_flags(RunConfig)
flags.DEFINE_string("resume", None, "a run's folder, or auto for the newest of these settings: go on where it stopped")
flags.DEFINE_string("config", None, "a run's config.json: start the same run again")


def main(arguments: list[str]) -> None:
    del arguments
    # After the flags, so that a wrong one is told at once: this imports the backend.
    from trainers import training

    given = cli.given_flags(RunConfig)
    if FLAGS.resume == "auto":
        config = from_settings(given)
        training.resume(newest_like(config), config)
    elif FLAGS.resume:
        if given:
            raise UserError(f"{next(iter(given))}: a resumed run keeps its own settings; leave the flag out")
        training.resume(*open_run(FLAGS.resume))
    elif FLAGS.config:
        training.start(read_config(FLAGS.config), given)
    else:
        training.start(from_settings(given), {})


if __name__ == "__main__":
    cli.launch(main)
