"""A prepared split, read sample by sample."""

import contextlib
import errno
import functools
import hashlib
import operator
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mtl_keras.data.depth_encoding import decode_depth
from mtl_keras.data.examples import ENCODED_IMAGES, decode_example
from mtl_keras.data.spec import DataSpec
from mtl_keras.errors import UserError, first_line

_NO_DAMAGE = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class DamagedData(OSError, UserError):
    """Prepared data that is gone or damaged: a `UserError`, and an `OSError` to who knows how to go on after one."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


@contextlib.contextmanager
def telling_of_damage(path: str | Path) -> Iterator[None]:
    """Raises `DamagedData` for whatever TFDS and its reader raise over the files of a prepared folder.

    What is no damage goes through: files that may not be read, too many that are open, no memory, missing packages.
    """
    try:
        yield
    except (UserError, ImportError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _NO_DAMAGE:
            raise
        reason = f"the prepared data is gone or damaged ({first_line(error)})"
        mend = "delete this folder, so that it is prepared again"
        raise DamagedData(errno.EIO, f"{reason}: {mend}", str(path)) from error


def no_split(name: str, split: str, splits: Iterable[str]) -> UserError:
    """The error for a split that a dataset does not have."""
    return UserError(f'{name} has no split "{split}": expected one of {", ".join(splits)}')


class Dataset:
    """Random access to the samples of a split that TFDS has prepared.

    It needs no TensorFlow, can be pickled into worker processes, and reads from several threads at once.

    `sizes` has, for each (height, width) among the split's images, the id of one that has it. `pixels` counts those of
    all its images. `tasks` are those that any sample has a label of.

    Args:
        path: the prepared folder, `<prepared_dir>/<name>/<configuration>/<version>`.
        split: "train", "val" or "test".

    Raises:
        UserError: the dataset has no such split.

    Example:
        >>> dataset = mtl_keras.data.load("streets", "val")
        >>> dataset[0]["image"].shape
        (128, 256, 3)
    """

    def __init__(self, path: str | Path, split: str):
        self.path = Path(path)
        self.split = split
        with telling_of_damage(path):
            splits = self._builder.info.splits
            if split not in splits:
                raise no_split(self.name, split, splits)
            metadata = self._builder.info.metadata
            self.spec = DataSpec.from_dict(metadata["spec"])
            self.depth_encoding: str = metadata["depth_encoding"]
            self.measured_depth: dict[str, float] | None = metadata["measured_depth"]
            self.bad_files: list[tuple[str, str]] = [tuple(file) for file in metadata["bad_files"]]
            self.sizes: dict[tuple[int, int], str] = {
                (height, width): id for height, width, id in metadata["sizes"][split]
            }
            self.pixels: int = metadata["pixels"][split]
            self.tasks: tuple[str, ...] = tuple(metadata["tasks"][split])
            self._length = splits[split].num_examples
            identity = "|".join([self.full_name, split, str(self._length), metadata["prepared"]])
            self.fingerprint = hashlib.sha256(identity.encode()).hexdigest()[:16]

    @functools.cached_property
    def _builder(self) -> Any:
        import tensorflow_datasets as tfds

        return tfds.builder_from_directory(self.path)

    @functools.cached_property
    def _source(self) -> Any:
        import tensorflow_datasets as tfds

        decoders = {name: tfds.decode.SkipDecoding() for name in ENCODED_IMAGES}
        return self._builder.as_data_source(self.split, decoders=decoders)

    @property
    def name(self) -> str:
        """The dataset's name, such as "streets"."""
        return self._builder.name

    @property
    def full_name(self) -> str:
        """Name, configuration and version, such as "streets/demo/1.0.0"."""
        return self._builder.info.full_name

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Decodes a sample; as in a list, −1 is the last.

        Returns:
            `id` str, `image` (H, W, 3) uint8, `semseg` (H, W) uint8 train ids with 255 = ignore, `depth_codes` (H, W)
            uint8 or uint16 and `depth_scale` float; `metres` turns the last two into depth.
        """
        return decode_example(self.stored(index))

    def stored(self, index: int) -> dict[str, Any]:
        """The stored example with its images still encoded.

        Raises:
            IndexError: no such sample.
            DamagedData: the prepared files are gone or damaged.
        """
        position = operator.index(index)
        position += self._length if position < 0 else 0
        if not 0 <= position < self._length:
            raise IndexError(f"sample {index} of {self._length}")
        with telling_of_damage(self.path):
            example = self._source[position]
            if example["id"] is None:
                raise ValueError("an empty record")
        return example

    def id(self, index: int) -> str:
        """A sample's id, without decoding it."""
        return self.stored(index)["id"].decode()

    def metres(self, sample: dict[str, Any]) -> np.ndarray:
        """A sample's depth.

        Returns:
            (H, W) float32 metres; 0 where there is none or it lies outside the spec's range.
        """
        return decode_depth(sample["depth_codes"], self.depth_encoding, sample["depth_scale"], self.spec.depth_range)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in ("_builder", "_source")}

    def __repr__(self) -> str:
        return f"Dataset({self.full_name!r}, {self.split!r}, {self._length} samples)"
