"""Files of a source, unpacked or within ZIP archives, which are read in place and never extracted."""

import dataclasses
import functools
import lzma
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from mtl_keras.data import images
from mtl_keras.data.images import BadFile
from mtl_keras.data.raw_files import every_path, is_hidden
from mtl_keras.errors import UserError

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
    """Lists the files under some folders, taken from `<root>/<folder>` and, where it has none, `<root>/<folder>*.zip`.

    What cannot be read, such as a link to nothing, is listed too, so that its reader names it.

    Returns:
        The files by their path relative to `root`, with forward slashes; hidden ones are passed over.

    Raises:
        UserError: an archive cannot be opened.
    """
    found: dict[str, SourceFile] = {}
    for folder in folders:
        for path in every_path(root / folder) if (root / folder).is_dir() else ():
            if not is_hidden(path.relative_to(root)):
                found[path.relative_to(root).as_posix()] = SourceFile(path)
        for archive in sorted(root.glob(f"{folder}*.zip")):
            for member in _members(archive):
                if member.startswith(f"{folder}/") and not is_hidden(PurePosixPath(member)):
                    found.setdefault(member, SourceFile(archive, member))
    return found


def _members(archive: Path) -> list[str]:
    try:
        return [info.filename for info in _open(archive).infolist() if not info.is_dir()]
    except _DAMAGE as error:
        raise UserError(f"{archive} cannot be opened ({error}): download it again") from error


def _open(archive: Path) -> zipfile.ZipFile:
    return _open_once(archive, archive.stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _open_once(archive: Path, modified: int) -> zipfile.ZipFile:
    del modified  # an archive that was replaced is opened anew
    return zipfile.ZipFile(archive)
