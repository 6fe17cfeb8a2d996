"""Files that are either whole or not there."""

import contextlib
import json
import os
import re
import secrets
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from mtl_keras.errors import UserError, on_one_line

# Weights hardly shrink: who claims to unpack to more than this times an archive's size means harm.
_MOST_UNPACKED = 20

_HALF_WRITTEN = re.compile(r"\..{1,16}-[0-9a-f]{8}(\.\w+)?")


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a path beside `path` to write to, and renames it into place when all went well.

    The suffix stays, so that a library which goes by it writes the right format. The bytes are on the disk before the
    rename, so that not even a power cut leaves a torn file under the name.

    Raises:
        OSError: it cannot be written; a name that the folder cannot hold is told before anything is.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.lstat()
    # Of a long name only the beginning, for the temporary one must be no longer.
    temporary = path.with_name(f".{path.stem[:16]}-{secrets.token_hex(4)}{path.suffix}")
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        _flush_to_disk(temporary)
        temporary.replace(path)
        _flush_to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def remove_half_written(folder: str | os.PathLike) -> None:
    """Removes what `replacing` left in a folder when its process was killed; nobody else may be writing there."""
    for path in Path(folder).glob(".*"):
        if _HALF_WRITTEN.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a folder beside `path`, which is not there yet, to write into; renames it into place when all went well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-") as scratch:
        folder = Path(scratch) / path.name
        folder.mkdir()
        yield folder
        folder.rename(path)


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Writes a file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes a JSON file, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_values(path: str | os.PathLike) -> Any:
    """What a JSON file holds, or a TOML file (`.toml`).

    Raises:
        OSError: it cannot be read.
        ValueError: it is none, or nested too deep to be read.
    """
    # Windows' editors begin a file with a byte order mark.
    text = Path(path).read_text(encoding="utf-8-sig")
    try:
        return tomllib.loads(text) if Path(path).suffix == ".toml" else json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def as_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON or TOML gave, its lists and theirs as the tuples that a frozen dataclass holds."""
    return {name: _as_tuple(value) for name, value in values.items()}


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def refuse_harmful_archive(path: str | os.PathLike) -> None:
    """Passes any file but a ZIP archive (`.keras`, `.pth`) that is made to do harm when it is unpacked.

    Raises:
        UserError: it would fill the memory, or has a member that would lie outside the folder that it is unpacked to.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return  # not an archive, or none that anybody can read
    for info in members:
        place = PureWindowsPath(info.filename)  # which knows both kinds of slash, and drives
        if place.anchor or ".." in place.parts:
            member = on_one_line(info.filename)[:100]
            raise UserError(
                f"{path}: its member '{member}' leads out of the folder that it is unpacked to; do not use the file"
            )
    held, unpacked = os.path.getsize(path), sum(info.file_size for info in members)
    if unpacked > _MOST_UNPACKED * held + 2**20:
        raise UserError(f"{path}: {held} bytes that would unpack to {unpacked}; get it again, from who made it")
