"""What a person may give to be predicted: files, folders, globs and videos."""

import collections
import dataclasses
import glob
import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from mtl_keras.data.images import BadFile
from mtl_keras.data.raw_files import OTHER_PICTURES, READABLE, every_path, is_hidden
from mtl_keras.errors import UserError, on_one_line
from mtl_keras.inference import read_image
from trainers import video


@dataclasses.dataclass(frozen=True)
class Input:
    """A file to predict, and what its outputs are called: a relative path without a suffix."""

    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        return self.path.suffix.lower() in video.SUFFIXES

    def count(self) -> int | None:
        """How many frames there are to come; None where that shows only at the end."""
        if not self.is_video:
            return 1
        try:
            return video.about(self.path)[1]
        except (BadFile, UserError):  # reading says what is wrong with it
            return 0

    def frames(self) -> Iterator[tuple[str, np.ndarray]]:
        """Names and images, (height, width, 3) uint8: of one image, or of a video's frames, numbered from 0.

        Raises:
            BadFile: for a file that cannot be read, or a video that cannot be read to its end.
            UserError: for a video where PyAV is not installed.
        """
        if not self.is_video:
            yield self.name, read_image(self.path)
            return
        for index, frame in enumerate(video.frames(self.path)):
            yield f"{self.name}/{index:06d}", frame


def find(arguments: Sequence[str]) -> tuple[list[Input], list[str]]:
    """The files that are meant.

    A folder means the images and videos in it and below, links to folders followed and what is hidden passed over;
    any other file is taken as it is named. An input is called by its path below the folder that was given, or by its
    file's name; where inputs of several folders would be called the same, all are called by their paths below the
    folder that they have in common.

    Args:
        arguments: paths of files or folders, or globs.

    Returns:
        The inputs, in order, each name once, and what could not be found, a line each. A link is an input of its own.
    """
    found: dict[Path, tuple[Path, Path]] = {}
    problems = []
    for argument in arguments:
        paths = [Path(argument)] if Path(argument).exists() else sorted(map(Path, glob.glob(argument, recursive=True)))
        if not paths:
            problems.append(f"{on_one_line(argument)}: no such file, folder or match")
        for path in paths:
            files = [(path, Path(path.name))]
            if path.is_dir():
                files, others = _within(path)
                problems += [f"{on_one_line(file)}: {file.suffix} is not read; make it PNG or JPEG" for file in others]
                if not files:
                    problems.append(f"{on_one_line(path)}: a folder without images ({', '.join(READABLE)}) or videos")
            for file, name in files:
                place = Path(os.path.abspath(file)), name
                found.setdefault(Path(os.path.realpath(file.parent), file.name), place)
    return _named(dict(zip(found, _names(found.values()), strict=True))), problems


def count(inputs: Sequence[Input]) -> int | None:
    """How many frames inputs have together; None where one of them does not say."""
    counts = [item.count() for item in inputs]
    return None if None in counts else sum(filter(None, counts))


def _within(folder: Path) -> tuple[list[tuple[Path, Path]], list[Path]]:
    """The images and videos of a folder with their names, and pictures in other formats.

    Suffixes decide; of a pipe, or a link that leads nowhere, reading says what is wrong with it.
    """
    files = [(file, file.relative_to(folder)) for file in sorted(every_path(folder)) if not os.path.isdir(file)]
    files = [(file, name) for file, name in files if not is_hidden(str(name))]
    wanted = [(file, name) for file, name in files if name.suffix.lower() in READABLE + video.SUFFIXES]
    return wanted, [file for file, name in files if name.suffix.lower() in OTHER_PICTURES]


def _names(found: Collection[tuple[Path, Path]]) -> list[Path]:
    """What inputs are called, of where they lie and of their names below what was given."""
    folders: dict[Path, set[Path]] = {}
    for file, name in found:
        folders.setdefault(name.with_suffix(""), set()).add(file.parent)
    if all(len(same) == 1 for same in folders.values()):
        return [name for _, name in found]
    common = os.path.commonpath([file.parent for file, _ in found])
    return [file.relative_to(common) for file, _ in found]


def _named(found: dict[Path, Path]) -> list[Input]:
    """Inputs whose names differ: by the suffix where the stems are the same, and by a number at last."""
    stems = [name.with_suffix("").as_posix() for name in found.values()]
    counts = collections.Counter(stems)
    # A video's frames get a folder of its name, where another folder's outputs may be.
    folders = {parent.as_posix() for name in found.values() for parent in name.parents}
    inputs, taken = [], set()
    for (path, name), stem in zip(found.items(), stems, strict=True):
        unique = stem if counts[stem] == 1 and stem not in folders else f"{stem}_{name.suffix.lstrip('.')}"
        number = 2
        while unique in taken:
            unique = re.sub(r"(-\d+)?$", f"-{number}", unique, count=1)
            number += 1
        taken.add(unique)
        inputs.append(Input(path, unique))
    return inputs
