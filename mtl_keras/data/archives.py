"""Files of a source, unpacked or within ZIP archives, which are read in place and never extracted."""

import dataclasses
import functools
import logging
import lzma
import zipfile
import zlib
from pathlib import Path

from mtl_keras.data import images
from mtl_keras.data.images import BadFile
from mtl_keras.data.raw_files import every_path, is_hidden, name_within
from mtl_keras.data.spec import SPLITS
from mtl_keras.errors import UserError

logger = logging.getLogger(__name__)

_DAMAGE = (zipfile.BadZipFile, OSError, RuntimeError, ValueError)


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """A file, or a member of an archive.

    Args:
        path: the file, or the archive.
        member: the name within the archive, or None.
    """

    path: Path
    member: str | None = None

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}!{self.member}"

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            BadFile: it cannot be read.
        """
        if self.member is None:
            return images.read_file(self.path)
        try:
            archive = _open(self.path)
            size = archive.getinfo(self.member).file_size
            if size > images.MAX_BYTES:
                raise BadFile(self, f"{size} bytes unpacked, expected at most {images.MAX_BYTES}")
            return archive.read(self.member)
        except (*_DAMAGE, zlib.error, lzma.LZMAError, EOFError, KeyError) as error:
            raise BadFile(self, f"damaged archive ({error})") from error


def find_files(root: Path, folders: tuple[str, ...]) -> dict[str, SourceFile]:
    """Lists the files of train, val and test, from `<root>/<folder>` and, where it has none, `<root>/<folder>*.zip`.

    What cannot be read, such as a link to nothing, is listed too, so that its reader names it.

    Returns:
        The files by their path relative to `root`, with forward slashes; hidden ones are passed over.

    Raises:
        UserError: official archives that cannot be opened, each with its reason; others are told and passed over.
    """
    found: dict[str, SourceFile] = {}
    broken: list[BadFile] = []
    for folder in folders:
        for split in SPLITS:
            for path in every_path(root / folder / split):
                if not is_hidden(name := name_within(root, path)):
                    found[name] = SourceFile(path)
        for archive in sorted(root.glob(f"{folder}*.zip")):
            for member in _members(archive, folder, broken) if not archive.is_dir() else ():
                found.setdefault(member, SourceFile(archive, member))
    if broken:
        raise UserError("\n  ".join(["archives to download again, or to remove:", *map(str, broken)]))
    return found


def _members(archive: Path, folder: str, broken: list[BadFile]) -> list[str]:
    """What an archive has of the splits; none if it cannot be opened, which is noted where it should have some."""
    try:
        names = [info.filename for info in _open(archive).infolist() if not info.is_dir()]
    except _DAMAGE as error:
        reason = BadFile(archive, f"cannot be opened ({error})")
        if archive.stem in (folder, f"{folder}_trainvaltest"):
            broken.append(reason)
        else:
            logger.warning("passed over %s", reason)
        return []
    within = tuple(f"{folder}/{split}/" for split in SPLITS)
    return [name for name in names if name.startswith(within) and not is_hidden(name)]


def _open(archive: Path) -> zipfile.ZipFile:
    return _open_once(archive, archive.stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _open_once(archive: Path, modified: int) -> zipfile.ZipFile:
    del modified  # an archive that was replaced is opened anew
    return zipfile.ZipFile(archive)
