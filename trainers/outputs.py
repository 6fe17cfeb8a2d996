"""Files of predictions: written whole, or with a line that says why not."""

import errno
from pathlib import Path

from mtl_keras.data.images import BadFile
from mtl_keras.errors import UserError, on_one_line
from mtl_keras.files import write_bytes

# What a file system says of a name that is too long for it or has a character that it lacks; others may be good.
_OF_THE_NAME = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)


def write(path: Path, data: bytes) -> None:
    """Writes a file, whole or not at all.

    Raises:
        BadFile: this name cannot be written.
        UserError: the folder cannot be written to.
    """
    try:
        write_bytes(path, data)
    except OSError as error:
        raise cannot_write(path, error) from None


def cannot_write(path: Path, error: OSError) -> BadFile | UserError:
    """What to raise of an error of the system, or of FFmpeg: `BadFile` where it is of this file's name alone."""
    if error.errno in _OF_THE_NAME:
        return BadFile(path, f"cannot be written ({error.strerror}); rename its input")
    return UserError(f"out: {on_one_line(path)} cannot be written ({error.strerror}); give another --out")
