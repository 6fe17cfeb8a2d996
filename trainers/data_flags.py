"""The flags that say where a run's data lies by now, for every command that reads it again."""

import dataclasses

from absl import flags

from mtl_keras import data
from mtl_keras.data import Dataset
from trainers import cli
from trainers.config import RunConfig

FLAGS = flags.FLAGS
flags.disclaim_key_flags()


def define(dataset: str | None = None, note: str = "") -> None:
    """Defines the flags.

    Args:
        dataset: the help of --dataset, which a command has where this is given.
        note: what else the help of the other flags says.
    """
    if dataset:
        flags.DEFINE_string("dataset", None, dataset)
    flags.DEFINE_string("data_dir", None, f"folder of the raw dataset, if it has moved{note}")
    flags.DEFINE_string("prepared_dir", None, f"folder of prepared datasets, if it has moved{note}")


def chosen(config: RunConfig) -> RunConfig:
    """A run's configuration, with another dataset where the flags name one."""
    name = FLAGS["dataset"].value if "dataset" in FLAGS else None
    if name in (None, config.dataset):
        return config
    return dataclasses.replace(config, dataset=name, data_dir=None, image_size=(), depth_range=())


def load(config: RunConfig, split: str) -> Dataset:
    """A split of a run's dataset, or of the one that the flags name, from where they say that it lies."""
    config = chosen(config)
    given = cli.given_flags(RunConfig)
    moved = {name: given[name] for name in ("data_dir", "prepared_dir") if given.get(name, "") != ""}
    return data.load(config.dataset, split, **{**config.source, **moved})
