"""What a person may give to be predicted: files, folders, globs and videos."""

import dataclasses
import glob
import importlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mtl_keras.data.images import BadFile
from mtl_keras.errors import UserError, on_one_line
from mtl_keras.inference import read_image

IMAGES = (".png", ".jpg", ".jpeg")
VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v")


@dataclasses.dataclass(frozen=True)
class Input:
    """A file to predict, and what its outputs are called: a relative path without a suffix."""

    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        return self.path.suffix.lower() in VIDEOS

    def frames(self) -> Iterator[tuple[str, np.ndarray]]:
        """Names and images, (height, width, 3) uint8: of one image, or of a video's frames, numbered from 0.

        Raises:
            BadFile: for a file that cannot be read.
            UserError: for a video where PyAV is not installed.
        """
        if not self.is_video:
            yield self.name, read_image(self.path)
            return
        for index, frame in enumerate(_video_frames(self.path)):
            yield f"{self.name}/{index:06d}", frame


def find(arguments: Sequence[str]) -> tuple[list[Input], list[str]]:
    """The files that are meant.

    A folder means the images and videos in it and below; any other file is taken as it is named.

    Args:
        arguments: paths of files or folders, or globs.

    Returns:
        The inputs, in order and without doublets, and what could not be found, a line each.
    """
    found: dict[Path, Path] = {}
    problems = []
    for argument in arguments:
        paths = [Path(argument)] if Path(argument).exists() else sorted(map(Path, glob.glob(argument, recursive=True)))
        if not paths:
            problems.append(f"{on_one_line(argument)}: no such file, folder or match")
        for path in paths:
            files = [(path, Path(path.name))]
            if path.is_dir():
                files = [(file, file.relative_to(path)) for file in sorted(path.rglob("*")) if _is_wanted(file)]
                if not files:
                    problems.append(f"{on_one_line(path)}: a folder without images ({', '.join(IMAGES)}) or videos")
            for file, name in files:
                # Unlike `resolve`, it takes a link that leads to itself as it is: reading says what is wrong with it.
                found.setdefault(Path(os.path.realpath(file)), name)
    return _named(found), problems


def _is_wanted(file: Path) -> bool:
    return file.suffix.lower() in IMAGES + VIDEOS and file.is_file() and not file.name.startswith(".")


def _named(found: dict[Path, Path]) -> list[Input]:
    """Inputs whose names differ: by the suffix where the stems are the same, and by a number at last."""
    stems = [name.with_suffix("").as_posix() for name in found.values()]
    inputs, taken = [], set()
    for (path, name), stem in zip(found.items(), stems, strict=True):
        unique = stem if stems.count(stem) == 1 else f"{stem}_{name.suffix.lstrip('.')}"
        number = 2
        while unique in taken:
            unique = re.sub(r"(-\d+)?$", f"-{number}", unique, count=1)
            number += 1
        taken.add(unique)
        inputs.append(Input(path, unique))
    return inputs


def _video_frames(path: Path) -> Iterator[np.ndarray]:
    try:
        av = importlib.import_module("av")
    except ImportError:
        raise UserError(f"{path}: a video needs PyAV to be read; install it: pip install av") from None
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise BadFile(path, "has no pictures")
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
    except (av.FFmpegError, OSError) as error:
        raise BadFile(path, f"not a video that can be read ({error.strerror or error})") from None
