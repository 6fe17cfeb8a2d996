"""Videos, read and written frame by frame, so that no more than a few frames are in memory; PyAV does it."""

import contextlib
import importlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from mtl_keras.data.images import BadFile
from mtl_keras.errors import UserError
from mtl_keras.files import replacing
from trainers.outputs import cannot_write

SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v")
# Of a video that does not tell its own, such as raw H.264.
_USUAL_RATE = Fraction(25)
# ITU-T H.273's number of the colours that players take HD video to have.
_BT_709 = 1


def frames(path: Path) -> Iterator[np.ndarray]:
    """The frames of a video, turned upright as its file says, each RGB (height, width, 3) uint8.

    Raises:
        BadFile: for a file that cannot be read, or not to its end; the frames before that are given.
        UserError: PyAV is not installed.
    """
    count = 0
    with _opened(path) as container:
        try:
            for frame in container.decode(video=0):
                yield np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                count += 1
        except _pyav(path).FFmpegError as error:
            raise BadFile(path, f"damaged after {count} frames ({error.strerror})") from None


def about(path: Path) -> tuple[Fraction, int | None]:
    """A video's frames a second, on average, and how many frames its file says it has; None if it does not say.

    Raises:
        BadFile: for a file that cannot be read.
        UserError: PyAV is not installed.
    """
    with _opened(path) as container:
        stream = container.streams.video[0]
        return stream.average_rate or stream.guessed_rate or _USUAL_RATE, stream.frames or None


@contextlib.contextmanager
def writing(path: Path, rate: Fraction) -> Iterator[Callable[[np.ndarray], None]]:
    """Gives a function that adds a frame, RGB (height, width, 3) uint8, to an H.264 video in an MP4 file.

    All frames have the first one's size; where a side is odd, which H.264 does not know, the last row or column is
    repeated. The file appears under its name when it is whole.

    Args:
        path: the file; one that is there is replaced.
        rate: frames a second.

    Raises:
        BadFile: its name cannot be written.
        UserError: PyAV is not installed, or the folder cannot be written to.
    """
    av = _pyav(path)
    # Its index lies before its frames, so that a browser plays it while it loads.
    options = {"movflags": "faststart"}
    try:
        with replacing(path) as beside, av.open(str(beside), "w", options=options) as container:
            stream = container.add_stream("libx264", rate=rate, options={"crf": "18"})
            yield lambda image: container.mux(stream.encode(_as_frame(image, stream)))
            container.mux(stream.encode())
    except (av.FFmpegError, OSError) as error:
        raise cannot_write(path, error) from None


def _as_frame(image: np.ndarray, stream: Any) -> Any:
    """An image in the stream's colours and size, which are set by the first one."""
    from av import VideoFrame
    from av.video.reformatter import ColorRange, Colorspace

    height, width = image.shape[:2]
    frame = VideoFrame.from_ndarray(np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge"), "rgb24")
    coded = stream.codec_context
    if not coded.is_open:
        coded.width, coded.height, coded.pix_fmt = frame.width, frame.height, "yuv420p"
        coded.colorspace = coded.color_primaries = coded.color_trc = _BT_709
        coded.color_range = ColorRange.MPEG
    return frame.reformat(
        coded.width, coded.height, coded.pix_fmt, dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
    )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A video, opened to be read; what goes wrong with it is told as a bad file."""
    av = _pyav(path)
    if path.exists() and not path.is_file():
        raise BadFile(path, "not a file")  # a pipe may never end
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise BadFile(path, "has no pictures")
            yield container
    except av.FFmpegError as error:
        raise BadFile(path, f"not a video that can be read ({error.strerror})") from None


def _pyav(path: Path) -> Any:
    try:
        return importlib.import_module("av")
    except ImportError:
        raise UserError(f"{path}: a video needs PyAV; run: pip install -r requirements-extras.txt") from None
