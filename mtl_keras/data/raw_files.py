"""Making an example of image files as they lie in a dataset's folders."""

import contextlib
import dataclasses
import hashlib
import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, TypeVar

import numpy as np

from mtl_keras.data import images
from mtl_keras.data.examples import Example, depth_sums, missing_depth, missing_semseg
from mtl_keras.data.images import BadFile
from mtl_keras.data.spec import IGNORE_LABEL
from mtl_keras.errors import on_one_line

Result = TypeVar("Result")
FilesById = dict[str, list[Path]]

GREY_16 = ("I;16", "I;16B", "I;16L", "I")
READABLE = (".jpeg", ".jpg", ".png")
# What pictures and depth also come in: nothing here reads it, so such a file is named, not passed over.
OTHER_PICTURES = (".avif", ".bmp", ".gif", ".heic", ".jp2", ".jxl", ".ppm", ".tga", ".tif", ".tiff", ".webp")
_OTHER_DEPTH = (".exr", ".hdr", ".mat", ".npy", ".npz", ".pfm", ".pgm", ".pnm")

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RawSample:
    """The files of one sample; None where it has no such label.

    Args:
        id: what the names have in common.
        image: RGB.
        semseg: labels.
        depth: codes.
        same_id: all files of a kind of which there are several, so that nobody can tell which one is meant.
    """

    id: str
    image: Path
    semseg: Path | None
    depth: Path | None
    same_id: tuple[Path, ...] = ()

    @property
    def files(self) -> list[Path]:
        """All of them."""
        return [path for path in (self.image, self.semseg, self.depth, *self.same_id) if path]


@dataclasses.dataclass(frozen=True)
class FileRules:
    """What the files of a dataset must be.

    Args:
        num_classes: labels are 0 … `num_classes` − 1, and 255.
        depth_encoding: see `depth_encoding.ENCODINGS`.
        depth_scale: the encoding's scale.
        depth_range: least and greatest valid metres.
    """

    num_classes: int
    depth_encoding: str
    depth_scale: float
    depth_range: tuple[float, float]


def read_example(sample: RawSample, rules: FileRules) -> Example | list[BadFile]:
    """Checks a sample's files and takes their bytes over; what is wrong comes back as a list of every bad file."""
    bad = shared_id(sample.id, sample.same_id)
    image = attempt(bad, _read_rgb, sample.image)
    semseg = attempt(bad, _read_labels, sample.semseg, rules) if sample.semseg else None
    depth = attempt(bad, _read_depth, sample.depth, rules) if sample.depth else None
    if image:
        for path, label in ((sample.semseg, semseg), (sample.depth, depth)):
            if label and label[1].shape != image[1].shape[:2]:
                bad.append(size_mismatch(path, label[1], sample.image, image[1]))
    if bad or image is None:
        return bad
    height, width = image[1].shape[:2]
    sums = (0, 0.0, 0.0)
    if depth:
        sums = depth_sums(depth[1], rules.depth_encoding, rules.depth_scale, rules.depth_range)
    return Example(
        id=on_one_line(sample.id),
        image=image[0],
        semseg=semseg[0] if semseg else missing_semseg(height, width),
        depth=depth[0] if depth else missing_depth(height, width),
        depth_scale=rules.depth_scale,
        depth_sums=sums,
    )


def attempt(bad: list[BadFile], function: Callable[..., Result], *args: Any) -> Result | None:
    """The function's result, or None and one more bad file."""
    try:
        return function(*args)
    except BadFile as error:
        bad.append(error)
        return None


def size_mismatch(path: object, array: np.ndarray, image_path: object, image: np.ndarray) -> BadFile:
    """The reason for a label that does not lie on its image."""
    height, width = array.shape[:2]
    reason = f"{height}×{width} px, but {Path(str(image_path)).name} has {image.shape[0]}×{image.shape[1]}"
    return BadFile(path, reason)


def check_labels(labels: np.ndarray, num_classes: int, path: object) -> None:
    """Refuses labels that are neither a class nor ignore.

    Raises:
        BadFile: with the stray ids.
    """
    counts = np.bincount(labels.ravel(), minlength=256)
    stray = [str(i) for i in np.flatnonzero(counts) if num_classes <= i != IGNORE_LABEL]
    if stray:
        raise BadFile(path, f"label ids {', '.join(stray[:8])} outside 0–{num_classes - 1} and {IGNORE_LABEL}")


def fingerprint(root: Path, files: Iterable[Path], *options: Any) -> str:
    """A short digest of the files' paths under `root`, sizes and modification times, and of options."""
    digest = hashlib.sha256(repr(options).encode())
    for path in sorted(files, key=lambda path: os.fspath(path).replace("/", "\0")):  # as paths sort, but faster
        state = "unreadable"  # the reader says why
        with contextlib.suppress(OSError):
            status = os.stat(path)
            state = f"{status.st_size}\0{status.st_mtime_ns}"
        digest.update(os.fsencode(name_within(root, path)) + f"\0{state}\n".encode())
    return digest.hexdigest()[:12]


def files_of(samples: Mapping[str, Iterable[Any]]) -> set[Any]:
    """All `files` of all samples of all splits."""
    return {file for sample in itertools.chain.from_iterable(samples.values()) for file in sample.files}


def raw_samples(images: FilesById, semseg: FilesById, depth: FilesById) -> list[RawSample]:
    """A sample for each id that has an image, in the order of their numbers; tells of labels that have none."""
    for labels in (semseg, depth):
        if strays := [paths[0] for name, paths in labels.items() if name not in images]:
            more = f" and {len(strays) - 1} more" if strays[1:] else ""
            logger.warning("passed over labels of no image: %s%s", on_one_line(strays[0]), more)
    samples = []
    for name in sorted(images, key=natural_order):
        kinds = [kind.get(name, []) for kind in (images, semseg, depth)]
        semseg_file, depth_file = (paths[0] if paths else None for paths in kinds[1:])
        same_id = tuple(path for paths in kinds if len(paths) > 1 for path in paths)
        samples.append(RawSample(name, images[name][0], semseg_file, depth_file, same_id))
    return samples


def is_picture(path: PurePath) -> bool:
    """Whether a file's suffix is one that pictures and depth have, in a format that is read or in another."""
    return path.suffix.lower() in (*READABLE, *OTHER_PICTURES, *_OTHER_DEPTH)


def by_id(files: Iterable[tuple[str, Path]], readable: Sequence[str] = READABLE) -> FilesById:
    """Groups files by their ids, each group in the order of the names.

    Files of other suffixes than the readable ones count where their id has no other: whoever reads them names them.
    """
    found: FilesById = {}
    for name, path in sorted(files):
        found.setdefault(name, []).append(path)
    return {name: [path for path in paths if path.suffix.lower() in readable] or paths for name, paths in found.items()}


def shared_id(name: str, files: Iterable[object]) -> list[BadFile]:
    """The reason for each of several files of a kind that have one id."""
    return [BadFile(file, f"another file has the id {name} too: keep one") for file in files]


def name_within(folder: Path, path: Path) -> str:
    """A path without the folder's, under which it lies; many times as fast as `Path.relative_to`."""
    return os.fspath(path).removeprefix(os.path.join(folder, ""))


def is_hidden(name: str) -> bool:
    """Whether a file or a folder above it has a name that begins with a dot, as what systems leave behind has."""
    return name.startswith(".") or "/." in name


def every_path(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """All that lies in a folder and in the folders within, links to folders followed but for those that lead back.

    Nothing lies in what is no folder.
    """
    if folder.is_dir() and (real := os.path.realpath(folder)) not in above:
        for path in folder.iterdir():
            yield path
            yield from every_path(path, above | {real})


def natural_order(name: str) -> tuple[bool, int, str]:
    """Sorts numbered names by their numbers, 2 before 10, and others after them."""
    return (False, int(name), name) if name.isdecimal() else (True, 0, name)


def _read_rgb(path: Path) -> tuple[bytes, np.ndarray]:
    data = images.read_file(path)
    return data, images.read_rgb(data, path)


def _read_labels(path: Path, rules: FileRules) -> tuple[bytes, np.ndarray]:
    labels = images.read_labels(images.read_file(path), path)
    check_labels(labels, rules.num_classes, path)
    return images.encode_png(labels), labels


def _read_depth(path: Path, rules: FileRules) -> tuple[bytes, np.ndarray]:
    data = images.read_file(path)
    image = images.open_png(data, path)
    if rules.depth_encoding == "inverse":
        images.require_mode(image, ("L",), "8-bit grey", path)
    else:
        images.require_mode(image, ("L", *GREY_16), "8- or 16-bit grey", path)
    codes = images.pixels(image)
    return (images.encode_png(codes) if codes.dtype == np.uint8 else data), codes
