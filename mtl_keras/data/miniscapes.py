"""`miniscapes`: 20,000 / 2,500 / 2,500 synthetic street scenes, a down-scaled cut of Synscapes.

The folder is `<root>/{train,val,test}/{rgb,semseg,depth}/<index>.{jpg|png}`. A missing semseg or depth file means that
the sample has no such label; the published test split has none at all.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from mtl_keras.data import raw_files
from mtl_keras.data.builder import ExampleBuilder
from mtl_keras.data.examples import Example
from mtl_keras.data.images import BadFile
from mtl_keras.data.raw_files import FileRules, RawSample
from mtl_keras.data.spec import MINISCAPES, SPLITS, DataSpec
from mtl_keras.errors import UserError


@dataclasses.dataclass(eq=False)
class MiniscapesConfig(tfds.core.BuilderConfig):
    """Where the source lies, and its files.

    Args:
        samples: the samples of each split.
    """

    samples: dict[str, list[RawSample]] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_source(cls, data_dir: Path) -> "MiniscapesConfig":
        """Finds the samples of a folder; the configuration is named by the fingerprint of its files.

        Raises:
            UserError: the folder has no split with images.
        """
        samples = {split: found for split in SPLITS if (found := _find_samples(data_dir / split))}
        if not samples:
            raise UserError(f"data_dir {data_dir} holds no Miniscapes: expected {data_dir / 'train' / 'rgb'}/0.jpg …")
        files = raw_files.files_of(samples)
        return cls(name=raw_files.fingerprint(data_dir, files), samples=samples)


class Miniscapes(ExampleBuilder):
    """Miniscapes with both labels; the spec keeps the published depth statistics, the measured ones lie beside them."""

    measures_depth = False

    def data_spec(self) -> DataSpec:
        return MINISCAPES

    def depth_encoding(self) -> str:
        return "inverse"

    def jobs(self) -> dict[str, Sequence[RawSample]]:
        return self.builder_config.samples

    def reader(self) -> Callable[[Any], Example | list[BadFile]]:
        rules = FileRules(MINISCAPES.num_classes, "inverse", 1.0, MINISCAPES.depth_range)
        return functools.partial(raw_files.read_example, rules=rules)


def _find_samples(folder: Path) -> list[RawSample]:
    labels = (_by_stem(folder / kind, [".png"]) for kind in ("semseg", "depth"))
    return raw_files.raw_samples(_by_stem(folder / "rgb", raw_files.READABLE), *labels)


def _by_stem(folder: Path, readable: Sequence[str]) -> raw_files.FilesById:
    """The pictures of a folder; none if there is no such folder."""
    paths = folder.iterdir() if folder.is_dir() else ()
    pictures = (path for path in paths if raw_files.is_picture(path) and not raw_files.is_hidden(path.name))
    return raw_files.by_id(((path.stem, path) for path in pictures), readable)
