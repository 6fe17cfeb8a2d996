"""A look at a dataset: `python -m trainers.data --dataset NAME [--data_dir DIR]`.

Prints how many samples there are, how frequent each class is, how depth is distributed, which labels are missing and
which files are bad, and draws some samples: image, classes with a legend, depth with a bar in metres. What was measured
is kept with the prepared data (`statistics-<split>.json`) and read from there the next time.
"""

from pathlib import Path
from typing import Any

from absl import flags

from mtl_keras import data, viz
from mtl_keras.data import Dataset, Statistics
from mtl_keras.errors import UserError
from trainers import cli, data_report
from trainers.config import SOURCE, RunConfig
from trainers.run_folder import writable

FLAGS = flags.FLAGS

cli.define_flags(RunConfig, SOURCE)
flags.DEFINE_list("split", None, "splits to look at; all by default")
flags.DEFINE_integer("samples", 6, "how many samples to draw, evenly spread over a split", lower_bound=1)
flags.DEFINE_string("out", None, "folder for the pictures; beside the prepared data by default")


def main(arguments: list[str]) -> None:
    del arguments

    out = writable(Path(FLAGS.out)) if FLAGS.out else None
    config = RunConfig(**cli.given_flags(RunConfig))
    datasets = data.load_splits(config.dataset, FLAGS.split, **config.source)
    statistics = {split: _statistics(dataset) for split, dataset in datasets.items()}
    console = cli.console()
    console.print(data_report.describe(datasets, statistics))
    if not FLAGS.split and (missing := [split for split in ("train", "val") if split not in datasets]):
        console.print(f"no {' and no '.join(missing)} split: trainers.fit needs both")
    for split, dataset in datasets.items():
        path = (out or dataset.path) / f"samples-{split}.png"
        _write(path, data_report.draw(dataset, FLAGS.samples))
        console.print(f"picture     {path}")


def _statistics(dataset: Dataset) -> Statistics:
    """What was measured before, or is now."""
    found = data.stored_statistics(dataset)
    if found is None:
        found = data.measure_statistics(dataset)
        try:
            data.store_statistics(dataset, found)
        except OSError as error:
            print(f"{dataset.path}: the statistics cannot be kept there ({error.strerror}); they are shown alone")
    return found


def _write(path: Path, figure: Any) -> None:
    try:
        viz.save_figure(path, figure, dpi=110)
    except OSError as error:
        raise UserError(f"out: {path} cannot be written ({error.strerror}); give another --out") from None


if __name__ == "__main__":
    cli.launch(main)
