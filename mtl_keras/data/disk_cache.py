"""All decoded samples of a split in one file that is read through mmap.

A crop reads only the pages it lies on, processes share these pages, and the file may be larger than the memory. Beside
`samples.bin`, `index.json` says where each sample lies and what the cache was made of.
"""

import collections
import errno
import json
import logging
import mmap
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mtl_keras.data.cache import decoded_bytes, human_size, sample_bytes
from mtl_keras.data.dataset import Dataset
from mtl_keras.data.folders import locked, remove_all
from mtl_keras.data.images import MAX_SIDE
from mtl_keras.data.pools import ordered_map
from mtl_keras.errors import UserError
from mtl_keras.files import read_values

_FORMAT = 1
_ARRAYS = ("image", "semseg", "depth_codes")

logger = logging.getLogger(__name__)


class DiskCache:
    """Decoded samples out of a cache that is complete. It can be pickled: every process maps the file itself.

    Args:
        folder: where the cache lies.

    Raises:
        OSError, ValueError, KeyError: the cache is missing or damaged.
    """

    def __init__(self, folder: str | Path):
        self._folder = Path(folder)
        index = read_values(self._folder / "index.json")
        self.made_of: dict[str, Any] = dict(index["made_of"])
        self._ids: list[str] = index["ids"]
        self._sizes = np.array(index["sizes"], np.int64).reshape(-1, 2)
        self._depth_scales: list[float] = index["depth_scales"]
        self._depth_dtypes: list[str] = index["depth_dtypes"]
        self._offsets = np.array(index["offsets"], np.int64)
        self._memory = self._map()
        if self._memory.size != index["bytes"]:
            raise ValueError(f"{self._folder} has {self._memory.size} bytes of samples, expected {index['bytes']}")
        self._check_places()

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A decoded sample whose arrays are read-only windows on the file."""
        height, width = map(int, self._sizes[index])
        offset, pixels = int(self._offsets[index]), height * width
        planes = self._memory[offset:]
        return {
            "id": self._ids[index],
            "image": planes[: 3 * pixels].reshape(height, width, 3),
            "semseg": planes[3 * pixels : 4 * pixels].reshape(height, width),
            "depth_codes": self._depth(planes[4 * pixels :], index, height, width),
            "depth_scale": self._depth_scales[index],
        }

    def _check_places(self) -> None:
        """Refuses an index that says less of some samples than of others, or has them lie outside the file."""
        columns = (self._ids, self._depth_scales, self._depth_dtypes, self._offsets)
        if any(len(column) != len(self._sizes) for column in columns):
            raise ValueError(f"{self._folder} has an index with columns of several lengths")
        codes = np.array([np.dtype(dtype).itemsize for dtype in self._depth_dtypes], np.int64)
        ends = self._offsets + self._sizes.prod(axis=1) * (4 + codes)
        possible = (0 < self._sizes) & (self._sizes <= MAX_SIDE)
        if not possible.all() or (self._offsets < 0).any() or (ends > self._memory.size).any():
            raise ValueError(f"{self._folder} has samples outside its file")

    def _depth(self, planes: np.ndarray, index: int, height: int, width: int) -> np.ndarray:
        dtype = np.dtype(self._depth_dtypes[index])
        return planes[: height * width * dtype.itemsize].view(dtype).reshape(height, width)

    def _map(self) -> np.ndarray:
        with open(self._folder / "samples.bin", "rb") as file:
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(memory, np.uint8)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_memory"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._memory = self._map()


def open_disk_cache(dataset: Dataset, folder: str | Path | None = None) -> DiskCache:
    """Opens the cache of a split, after writing it if there is none or it was made of something else.

    It is written beside and renamed when it is complete, so that what an interruption leaves is never read.

    Args:
        dataset: what to keep.
        folder: where; by default beside the prepared data.

    Raises:
        UserError: it cannot be written, does not fit on the disk, or the prepared data is damaged.
    """
    folder = Path(folder).expanduser() if folder else dataset.path / "decoded"
    target = folder / f"{dataset.full_name.replace('/', '-')}-{dataset.split}"
    made_of = _made_of(dataset)
    cache = _open(target, made_of, logging.DEBUG)
    if cache is not None:
        return cache
    try:
        with locked(folder):
            # Another process may have written it meanwhile.
            cache = _open(target, made_of, logging.WARNING)
            if cache is not None:
                return cache
            # Nobody else is writing here, so what lies unfinished was interrupted.
            remove_all(folder, f"{target.name}.*")
            return _write_and_rename(dataset, target, made_of)
    except UserError:
        raise
    except OSError as error:
        reason = "no space left" if error.errno == errno.ENOSPC else error.strerror
        raise UserError(
            f"the disk cache cannot be written to {folder} ({reason}): use another --cache_dir, --cache=none, or "
            "--cache=ram without --workers"
        ) from error


def _write_and_rename(dataset: Dataset, target: Path, made_of: dict[str, Any]) -> DiskCache:
    """Writes beside, under a name that nobody else takes."""
    folder, name = target.parent, f"{target.name}.{uuid.uuid4().hex[:8]}"
    beside = folder / f"{name}.unfinished"
    beside.mkdir()
    try:
        _write(dataset, beside, made_of)
        if target.exists():
            os.rename(target, folder / f"{name}.stale")
        os.rename(beside, target)
    finally:
        remove_all(folder, f"{name}.*")
    return DiskCache(target)


def _made_of(dataset: Dataset) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "dataset": dataset.full_name,
        "split": dataset.split,
        "samples": len(dataset),
        "fingerprint": dataset.fingerprint,
    }


def _open(target: Path, made_of: dict[str, Any], level: int) -> DiskCache | None:
    """The cache if it is whole and was made of this data; logs what is wrong with it."""
    if not target.exists():
        return None
    try:
        cache = DiskCache(target)
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        logger.log(level, "%s is damaged and will be written anew (%s)", target, error)
        return None
    if cache.made_of == made_of:
        return cache
    changed = ", ".join(key for key in made_of if cache.made_of.get(key) != made_of[key])
    logger.log(level, "%s was made of other data and will be written anew (%s differs)", target, changed)
    return None


def _write(dataset: Dataset, folder: Path, made_of: dict[str, Any]) -> None:
    size = decoded_bytes(dataset)
    free = shutil.disk_usage(folder).free
    logger.warning("decoding %s to disk: about %s at %s", dataset, human_size(size), folder.parent)
    if size > free:
        raise UserError(
            f"the disk cache of {dataset.full_name} {dataset.split} takes about {human_size(size)}, but "
            f"{human_size(free)} are free at {folder.parent}: use another --cache_dir, or --cache=none"
        )
    index = collections.defaultdict(list)
    offset = 0
    with open(folder / "samples.bin", "wb") as file:
        for sample in _decoded(dataset):
            index["ids"].append(sample["id"])
            index["sizes"].append(sample["semseg"].shape)
            index["depth_scales"].append(sample["depth_scale"])
            index["depth_dtypes"].append(sample["depth_codes"].dtype.str)
            index["offsets"].append(offset)
            for name in _ARRAYS:
                file.write(np.ascontiguousarray(sample[name]).data)
            # 16-bit codes must lie at even addresses.
            padding = -sample_bytes(sample) % 8
            file.write(bytes(padding))
            offset += sample_bytes(sample) + padding
        file.flush()
        os.fsync(file.fileno())
    (folder / "index.json").write_text(json.dumps({"made_of": made_of, "bytes": offset, **index}))


def _decoded(dataset: Dataset) -> Iterator[dict[str, Any]]:
    description = f"Decoding {dataset.name} {dataset.split}"
    progress = tqdm(range(len(dataset)), desc=description, unit=" samples", mininterval=0.5)
    return ordered_map(dataset.__getitem__, progress, processes=False)
