"""Trains a model: `python -m trainers.fit --arch branched`.

The first line tells what runs where; then comes a line for each epoch. Everything lands in the run's folder.
"""

from absl import flags

from trainers import cli
from trainers.config import RunConfig, from_settings, read_config

FLAGS = flags.FLAGS

cli.define_flags(RunConfig)
flags.DEFINE_string("resume", None, "a run's folder: go on where it stopped")
flags.DEFINE_string("config", None, "a run's config.json: start the same run again")


def main(arguments: list[str]) -> None:
    del arguments
    # After the flags, so that a wrong one is told at once: this imports the backend.
    from trainers import training

    given = cli.given_flags(RunConfig)
    if FLAGS.resume:
        training.resume(FLAGS.resume, given)
    elif FLAGS.config:
        training.start(read_config(FLAGS.config), given)
    else:
        training.start(from_settings(given), {})


if __name__ == "__main__":
    cli.launch(main)
