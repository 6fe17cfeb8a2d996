"""What every dataset's TFDS builder shares: the stored form, writing in order without TensorFlow, and bad files."""

import abc
import contextlib
import datetime
import errno
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tqdm import tqdm

from mtl_keras.data import examples
from mtl_keras.data.dataset import telling_of_damage
from mtl_keras.data.examples import Example
from mtl_keras.data.images import BadFile
from mtl_keras.data.pools import ordered_map
from mtl_keras.data.spec import DataSpec
from mtl_keras.errors import UserError

_EXAMPLES_A_SHARD = 1000
# As a share of the mean.
_LEAST_DEVIATION = 1e-3

logger = logging.getLogger(__name__)


class ExampleBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg] # untyped
    """A TFDS builder that says where samples are and how one is read; the rest is here.

    Preparing needs no TensorFlow: TFDS's own shuffling writer asks for it beyond 1 GB a split, so examples are written
    here, in the order of the source.

    Args:
        skip_bad_files: go on without the samples that have a bad file.
        **kwargs: as for `tfds.core.GeneratorBasedBuilder`.
    """

    VERSION = tfds.core.Version("1.0.0")
    # Worker processes for Python-bound samples, threads for those that Pillow reads.
    PROCESSES = False
    # Whether the spec's depth statistics are those of the train split, rather than published ones.
    measures_depth = True

    def __init_subclass__(cls, **kwargs: Any):
        # TFDS has a dataset of the same name as one of ours, and its registry takes a name once.
        super().__init_subclass__(skip_registration=True, **kwargs)

    def __init__(self, *, skip_bad_files: bool = False, **kwargs: Any):
        self.skip_bad_files = skip_bad_files
        super().__init__(file_format="array_record", **kwargs)

    @abc.abstractmethod
    def data_spec(self) -> DataSpec:
        """The dataset's facts; its depth statistics are replaced by measured ones if `measures_depth`."""

    @abc.abstractmethod
    def depth_encoding(self) -> str:
        """How depth is stored (see `depth_encoding.ENCODINGS`)."""

    @abc.abstractmethod
    def jobs(self) -> dict[str, Sequence[Any]]:
        """What `reader` is called with, for each split that the source has."""

    @abc.abstractmethod
    def reader(self) -> Callable[[Any], Example | list[BadFile]]:
        """A picklable function that makes an example of a job, or names its bad files."""

    def _create_builder_config(self, builder_config: Any, version: Any) -> tfds.core.BuilderConfig | None:
        if isinstance(builder_config, tfds.core.BuilderConfig):
            return builder_config  # TFDS would print all of its files as a warning
        return super()._create_builder_config(builder_config, version)

    def _info(self) -> tfds.core.DatasetInfo:
        return _Info(
            builder=self,
            features=examples.features(),
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterable[Any]]:
        del dl_manager
        return {split: self._generate_examples(split, jobs) for split, jobs in self.jobs().items()}

    def _generate_examples(self, split: str, jobs: Sequence[Any]) -> Iterator[Example | list[BadFile]]:
        description = f"Preparing {self.name} {split}"
        with tqdm(total=len(jobs), desc=description, unit=" samples", mininterval=0.5) as progress:
            for result in ordered_map(self.reader(), jobs, processes=self.PROCESSES):
                progress.update()
                yield result

    def _download_and_prepare(self, dl_manager: Any, download_config: Any) -> None:
        """Writes every split into the incomplete folder that TFDS renames when this returns."""
        del download_config
        bad: list[BadFile] = []
        tallies: dict[str, _Tally] = {}
        split_infos = []
        for split, results in self._split_generators(dl_manager).items():
            tallies[split] = _Tally()
            writer = _SplitWriter(self._get_filename_template(split_name=split))
            for result in results:
                if not isinstance(result, Example):
                    bad.extend(result)
                elif self.skip_bad_files or not bad:  # else nothing will be kept, and the rest is only checked
                    tallies[split].add(result)
                    writer.add(self.info.features.serialize_example(result.features()))
            if not (writer.num_examples or bad):
                raise UserError(f"the {split} split of {self.name} has no samples: expected at least one image")
            split_infos.append(writer.close())
        if bad and not self.skip_bad_files:
            raise bad_files_error(self.name, bad)
        split_infos = [info for info in split_infos if info.num_examples]
        if not split_infos:
            raise UserError(f"{self.name} has no sample without a bad file: nothing can be prepared")
        self.info.set_splits(tfds.core.SplitDict(split_infos))
        self.info.metadata.update(self._metadata(bad, tallies))

    def _log_download_bytes(self) -> None:
        """Nothing is downloaded, so TFDS's line about it stays away."""

    def _log_download_done(self) -> None:
        logger.info("%s is prepared in %s", self.info.full_name, self.data_dir)

    def _metadata(self, bad: list[BadFile], tallies: dict[str, "_Tally"]) -> dict[str, Any]:
        spec = self.data_spec().to_dict()
        count, total, squares = tallies.get("train", next(iter(tallies.values()))).depth_sums
        measured = None
        if count:
            mean = total / count
            measured = {"depth_mean": mean, "depth_std": float(np.sqrt(max(squares / count - mean**2, 0.0)))}
            if self.measures_depth:
                # Models divide by the standard deviation; that of nearly constant depth is rounding error.
                spec |= measured | {"depth_std": max(measured["depth_std"], _LEAST_DEVIATION * mean)}
        return {
            "spec": spec,
            "depth_encoding": self.depth_encoding(),
            "measured_depth": measured,
            "bad_files": [[file.path, file.reason] for file in bad],
            "sizes": {split: [[*size, id] for size, id in tally.sizes.items()] for split, tally in tallies.items()},
            "pixels": {split: tally.pixels for split, tally in tallies.items()},
            "tasks": {split: sorted(tally.tasks) for split, tally in tallies.items()},
            # Tells a cache of decoded samples that the data was prepared anew.
            "prepared": datetime.datetime.now(datetime.UTC).isoformat(),
        }


class _Tally:
    """What the samples of a split come to: depth, pixels, the id of one of each size, and the tasks with labels."""

    def __init__(self):
        self.depth_sums = np.zeros(3)
        self.pixels = 0
        self.sizes: dict[tuple[int, int], str] = {}
        self.tasks: set[str] = set()

    def add(self, example: Example) -> None:
        self.depth_sums += example.depth_sums
        self.pixels += example.size[0] * example.size[1]
        self.sizes.setdefault(example.size, example.id)
        self.tasks |= example.tasks


class _Info(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """TFDS would ask its bucket for a dataset of this name, and leave an empty temporary folder behind."""

    def read_from_directory(self, dataset_info_dir: Any) -> None:
        """Reads what a prepared folder says of itself; raises `DamagedData`."""
        with telling_of_damage(dataset_info_dir):
            super().read_from_directory(dataset_info_dir)


@contextlib.contextmanager
def _system_errors() -> Iterator[None]:
    """ArrayRecord reports a full disk as a RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        full = "No space left" in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error).splitlines()[0]) from error


class _SplitWriter:
    """Writes serialized examples to ArrayRecord shards, one after the other."""

    def __init__(self, template: Any):
        self._template = template
        self._writer: Any = None
        self._shard_lengths: list[int] = []
        self._num_bytes = 0

    @property
    def num_examples(self) -> int:
        return sum(self._shard_lengths)

    def add(self, record: bytes) -> None:
        if self._writer is None or self._shard_lengths[-1] == _EXAMPLES_A_SHARD:
            self._close_shard()
            self._shard_lengths.append(0)
            # Groups of one record, so that reading a sample reads no other.
            self._writer = ArrayRecordWriter(str(self._unnumbered(len(self._shard_lengths) - 1)), "group_size:1")
        with _system_errors():
            self._writer.write(record)
            if not self._writer.ok():
                self._close_shard()
        self._shard_lengths[-1] += 1
        self._num_bytes += len(record)

    def close(self) -> tfds.core.SplitInfo:
        """Ends the last shard and gives all of them TFDS's names, which tell how many there are."""
        self._close_shard()
        count = len(self._shard_lengths)
        for i in range(count):
            name = self._template.sharded_filepath(shard_index=i, num_shards=count)
            os.rename(self._unnumbered(i), name)
        return tfds.core.SplitInfo(
            name=self._template.split,
            shard_lengths=self._shard_lengths,
            num_bytes=self._num_bytes,
            filename_template=self._template,
        )

    def _close_shard(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with _system_errors():
                writer.close()

    def _unnumbered(self, index: int) -> Path:
        return Path(self._template.data_dir) / f"{self._template.split}-{index}.writing"


def bad_files_error(name: str, bad: Sequence[BadFile]) -> UserError:
    """The listing of all bad files under one headline that names the mend."""
    files, them, samples = f"{len(bad)} files", "them", "their samples"
    if len(bad) == 1:
        files, them, samples = "1 file", "it", "its sample"
    headline = f"{files} of {name} cannot be used: mend {them}, or go on without {samples} with --skip_bad_files"
    return UserError("\n  ".join([headline, *map(str, bad)]))
