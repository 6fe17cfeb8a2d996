"""What a split holds: class frequencies, depth, missing labels and sizes, measured once and kept with the data."""

import collections
import dataclasses
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mtl_keras.data.dataset import Dataset
from mtl_keras.data.pools import ordered_map
from mtl_keras.data.spec import IGNORE_LABEL
from mtl_keras.files import as_tuples, read_values, write_json

HISTOGRAM_BINS = 64


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Counts over all samples of a split.

    Args:
        samples: how many there are.
        class_pixels: labelled pixels of each class.
        ignored_pixels: pixels with the ignore label, in samples that have a semseg label.
        missing_semseg: samples without any semseg label.
        missing_depth: samples without any depth.
        invalid_depth: samples whose depth is nowhere valid, such as metres that all lie outside the spec's range.
        depth_pixels: pixels with valid depth.
        depth_mean: of the valid depth, in metres; 0 if there is none.
        depth_std: of the valid depth, in metres.
        depth_edges: edges of the histogram in metres, evenly spaced in the logarithm over the spec's range.
        depth_histogram: pixels of each bin.
        sizes: samples of each "height×width".
    """

    samples: int
    class_pixels: tuple[int, ...]
    ignored_pixels: int
    missing_semseg: int
    missing_depth: int
    invalid_depth: int
    depth_pixels: int
    depth_mean: float
    depth_std: float
    depth_edges: tuple[float, ...]
    depth_histogram: tuple[int, ...]
    sizes: dict[str, int]


def measure_statistics(dataset: Dataset) -> Statistics:
    """Reads every sample of a split and counts; sums are in float64 and exact integers.

    Returns:
        The statistics; `store_statistics` keeps them with the prepared data.
    """
    edges = np.geomspace(*dataset.spec.depth_range, HISTOGRAM_BINS + 1)
    # Rounding must not lose depth that lies exactly on the ends of the range.
    outer = np.concatenate([[0], edges[1:-1], [np.inf]])
    labels, histogram = np.zeros(256, np.int64), np.zeros(HISTOGRAM_BINS, np.int64)
    ignored = missing_semseg = missing_depth = invalid_depth = count = 0
    total = squares = 0.0
    sizes: collections.Counter[str] = collections.Counter()

    def measure(index: int) -> tuple[np.ndarray, np.ndarray, bool, float, float, str]:
        sample = dataset[index]
        metres = dataset.metres(sample).astype(np.float64)
        metres = metres[metres > 0]
        size = "{}×{}".format(*sample["semseg"].shape)
        found = np.bincount(sample["semseg"].ravel(), minlength=256)
        has_depth = bool(sample["depth_codes"].any())
        return found, np.histogram(metres, outer)[0], has_depth, metres.sum(), np.square(metres).sum(), size

    indices = tqdm(range(len(dataset)), desc=f"Measuring {dataset.name} {dataset.split}", unit=" samples")
    for found, depths, has_depth, depth_sum, depth_squares, size in ordered_map(measure, indices, processes=False):
        labelled = found.sum() > found[IGNORE_LABEL]
        labels += found
        ignored += int(found[IGNORE_LABEL]) * bool(labelled)
        histogram += depths
        missing_semseg += not labelled
        missing_depth += not has_depth
        invalid_depth += has_depth and not depths.any()
        count += int(depths.sum())
        total, squares = total + depth_sum, squares + depth_squares
        sizes[size] += 1
    mean = total / max(count, 1)
    return Statistics(
        samples=len(dataset),
        class_pixels=tuple(labels[: dataset.spec.num_classes].tolist()),
        ignored_pixels=ignored,
        missing_semseg=int(missing_semseg),
        missing_depth=int(missing_depth),
        invalid_depth=int(invalid_depth),
        depth_pixels=count,
        depth_mean=float(mean),
        depth_std=float(np.sqrt(max(squares / max(count, 1) - mean**2, 0.0))),
        depth_edges=tuple(edges.tolist()),
        depth_histogram=tuple(histogram.tolist()),
        sizes=dict(sizes),
    )


def store_statistics(dataset: Dataset, statistics: Statistics) -> Path:
    """Writes the statistics beside the prepared data, and returns where.

    Raises:
        OSError: the folder cannot be written to.
    """
    path = _path(dataset)
    write_json(path, dataclasses.asdict(statistics))
    return path


def stored_statistics(dataset: Dataset) -> Statistics | None:
    """The statistics kept with the prepared data, or None if there are none that can be read."""
    try:
        return Statistics(**as_tuples(read_values(_path(dataset))))
    except (OSError, ValueError, TypeError, AttributeError):
        return None  # missing, or of another version: it can be measured again


def _path(dataset: Dataset) -> Path:
    return dataset.path / f"statistics-{dataset.split}.json"
