"""Decoded samples kept in memory, so that an image is decoded once and crops are cut out of it."""

import contextlib
import logging
import threading
import weakref
from pathlib import Path
from typing import Any, Protocol

from mtl_keras.backend import cgroups
from mtl_keras.data.dataset import Dataset
from mtl_keras.errors import UserError

CACHES = ("none", "ram", "disk")
NOT_SHARED = 'cache "ram" cannot be shared by worker processes: use "disk", or no workers'

logger = logging.getLogger(__name__)

# Bytes of memory that a person may want to know of.
_WORTH_TELLING = 2**30
# Those whose samples may yet take memory that is free now.
_open_caches: "weakref.WeakSet[RamCache]" = weakref.WeakSet()


class SampleSource(Protocol):
    """Random access to decoded samples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


def usual_cache(workers: int, process_count: int) -> str:
    """ "ram", or the "disk" that processes share where there are several: in memory each would hold all samples."""
    return "disk" if workers or process_count > 1 else "ram"


def open_cache(dataset: Dataset, kind: str, *, folder: str | Path | None = None) -> SampleSource:
    """The dataset's decoded samples, kept as asked.

    Args:
        dataset: what to keep.
        kind: "none" decodes a sample whenever it is asked for; "ram" keeps each after its first use; "disk" writes all
            decoded samples to one file that is read through mmap, so that processes share it and it may be larger
            than the memory.
        folder: where the disk cache lies; by default beside the prepared data.

    Raises:
        UserError: unknown kind, or the samples do not fit.
    """
    if kind == "none":
        return dataset
    if kind == "ram":
        return RamCache(dataset)
    if kind == "disk":
        from mtl_keras.data.disk_cache import open_disk_cache

        return open_disk_cache(dataset, folder)
    raise UserError(f'cache "{kind}": expected one of {", ".join(CACHES)}')


class RamCache:
    """Keeps each decoded sample after its first use.

    Args:
        dataset: what to keep.

    Raises:
        UserError: it would take more memory than is free.
    """

    def __init__(self, dataset: Dataset):
        self._dataset = dataset
        self._samples: list[dict[str, Any] | None] = [None] * len(dataset)
        self._lock = threading.Lock()
        self._bytes = decoded_bytes(dataset)
        level = logging.INFO if self._bytes > _WORTH_TELLING else logging.DEBUG
        logger.log(level, "%s: decoded samples take up to %s of memory", dataset, human_size(self._bytes))
        promised, free = sum(cache.missing_bytes for cache in _open_caches), _free_memory()
        if self._bytes > free - promised:
            needed, others = human_size(self._bytes), f", and the other open splits {human_size(promised)}"
            raise UserError(
                f"{dataset.full_name} {dataset.split} takes about {needed} of memory when decoded"
                f"{others if promised else ''}, but {human_size(free)} are free: use --cache=disk or --cache=none"
            )
        _open_caches.add(self)

    @property
    def missing_bytes(self) -> int:
        """About how many bytes the samples take that have not been asked for yet."""
        return self._bytes * self._samples.count(None) // len(self)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self._samples[index]
        if sample is None:
            sample = self._dataset[index]
            with self._lock:
                sample = self._samples[index] = self._samples[index] or sample
        return sample

    def __reduce__(self):
        raise UserError(NOT_SHARED)


def decoded_bytes(dataset: Dataset) -> int:
    """About how many bytes the decoded samples of a split take."""
    first = dataset[0]
    return sample_bytes(first) * dataset.pixels // first["semseg"].size


def sample_bytes(sample: dict[str, Any]) -> int:
    """Bytes of a decoded sample's arrays."""
    return sum(sample[name].nbytes for name in ("image", "semseg", "depth_codes"))


def human_size(size: float) -> str:
    """A number of bytes as people say it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _free_memory() -> float:
    """Bytes that can be had without swapping; infinite where neither the system nor a container tells."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return min(int(line.split()[1]) * 1024, cgroups.memory_left())
    return cgroups.memory_left()
