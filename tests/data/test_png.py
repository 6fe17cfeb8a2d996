import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mtl_keras import data
from mtl_keras.data import images, png
from mtl_keras.data.images import BadFile
from mtl_keras.errors import UserError
from tests.data.conftest import png_of


def png_chunks(content):
    """Kinds and contents of a PNG file's chunks."""
    position = 8
    while position < len(content):
        (length,) = struct.unpack_from(">I", content, position)
        yield content[position + 4 : position + 8], content[position + 8 : position + 8 + length]
        position += 12 + length


def test_a_png_without_all_of_its_pixels_is_named(miniscapes_dir, tmp_path):
    """Pillow takes the rows that are missing for zeros, and passes over a wrong checksum."""
    train = miniscapes_dir / "train"
    half, other = train / "semseg" / "3.png", train / "depth" / "4.png"
    chunks = dict(png_chunks(half.read_bytes()))
    rows = zlib.decompress(chunks[b"IDAT"])
    chunks[b"IDAT"] = zlib.compress(rows[: len(rows) // 2])
    half.write_bytes(png_of(chunks.items()))
    content = bytearray(other.read_bytes())
    content[-13] ^= 1  # the pixels' checksum lies before the last chunk
    other.write_bytes(content)
    for path in (half, other):
        assert np.asarray(Image.open(path)).shape == (72, 96)
    with pytest.raises(UserError) as error:
        data.load("miniscapes", "train", data_dir=miniscapes_dir, prepared_dir=tmp_path / "prepared")
    _, *lines = str(error.value).splitlines()
    assert sorted(line.strip() for line in lines) == [
        f"{other}: damaged (its pixels have another checksum)",
        f"{half}: damaged (it has 50% of its pixels)",
    ]


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (72, 96)])
@pytest.mark.parametrize("mode", ["L", "P", "RGB", "I;16", "RGBA", "1"])
def test_a_png_of_any_kind_is_whole(size, mode):
    image = Image.new(mode, size[::-1])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    assert png.fault(buffer.getvalue()) is None
    chunks = dict(png_chunks(buffer.getvalue()))
    chunks[b"IDAT"] = zlib.compress(zlib.decompress(chunks[b"IDAT"])[:-1])
    assert png.fault(png_of(chunks.items())).startswith("damaged (it has ")


def test_an_interlaced_png_is_whole():
    """Adam7's passes over 3 rows of 5 pixels, as rows and columns."""
    passes = [(1, 1), (1, 1), (0, 2), (1, 1), (1, 3), (2, 2), (1, 5)]
    rows = b"".join(bytes(1 + columns) for count, columns in passes for _ in range(count))
    header = struct.pack(">IIBBBBB", 5, 3, 8, 0, 0, 0, 1)
    whole, cut = (png_of([(b"IHDR", header), (b"IDAT", zlib.compress(d)), (b"IEND", b"")]) for d in (rows, rows[:-1]))
    assert np.asarray(Image.open(io.BytesIO(whole))).shape == (3, 5)
    assert png.fault(whole) is None and png.fault(cut).startswith("damaged (it has ")


def test_a_header_that_is_not_first_and_exif_that_cannot_be_read():
    """Pillow opens both; the first has no place that its size is read from, and the second is upright."""
    buffer = io.BytesIO()
    Image.new("RGB", (5, 3)).save(buffer, "PNG", exif=b"Exif\0\0garbage header")
    assert images.read_rgb(buffer.getvalue(), "a").shape == (3, 5, 3)
    chunks = [(b"tEXt", b"Title\0a picture"), *png_chunks(buffer.getvalue())]
    with pytest.raises(BadFile, match="it does not begin with its header"):
        images.read_rgb(png_of(chunks), "a")
