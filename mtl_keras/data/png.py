"""Whether a PNG file has all of its pixels: Pillow takes those that are missing for zeros, and zero is a class."""

import struct
import zlib
from collections.abc import Iterator

_SIGNATURE = 8
# Of a kind of colours, the numbers a pixel (the PNG specification, table 11.1).
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# First column and row of each of Adam7's passes, and the steps to the next ones (section 8.2).
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_PIECE = 2**20


def fault(data: bytes) -> str | None:
    """What the pixels of a PNG file lack, whose bytes Pillow could open: some of its rows, or the right checksum."""
    if data[_SIGNATURE + 4 : _SIGNATURE + 8] != b"IHDR":
        return "damaged (it does not begin with its header)"
    unpacking, size, expected = zlib.decompressobj(), 0, _size_of_rows(data)
    try:
        for piece in _packed(data):
            while piece and size < expected:
                size += len(unpacking.decompress(piece, _PIECE))
                piece = unpacking.unconsumed_tail
    except (zlib.error, struct.error) as error:
        return f"damaged ({error})"
    return None if size >= expected else f"damaged (it has {100 * size // expected}% of its pixels)"


def _size_of_rows(data: bytes) -> int:
    """Bytes that the pixels take when unpacked; each row begins with the number of its filter."""
    width, height, bits, colors, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, _SIGNATURE + 8)
    size = 0
    for column, row, step, row_step in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - column) // step), -(-(height - row) // row_step)
        if columns > 0:
            size += max(rows, 0) * (1 + -(-columns * bits * _CHANNELS[colors] // 8))
    return size


def _packed(data: bytes) -> Iterator[bytes]:
    """The packed pixels, chunk by chunk; raises `zlib.error` for one with another checksum."""
    position = _SIGNATURE
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        chunk = data[position + 4 : position + 8 + length]
        if kind == b"IDAT":
            (checksum,) = struct.unpack_from(">I", data, position + 8 + length)
            if zlib.crc32(chunk) != checksum:
                raise zlib.error("its pixels have another checksum")
            yield chunk[4:]
        position += 12 + length
