"""More than 300 image files as users, disks and attackers have them: damaged, of other kinds, under awkward names."""

import gzip
import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (16, 24)
AWKWARD_NAMES = (
    "two words.png",
    "it's.png",
    '"quoted".png',
    "new\nline.png",
    "tab\tand\rreturn.png",
    "Straße_žluťoučký.png",
    "街道.png",
    "שלום.png",
    "🚗.png",
    "e\u0301.png",
    "[a-z]*.png",
    "100%d{id}.png",
    "-rf.png",
    "back\\slash.png",
    "$(reboot);&.png",
    "dots...png",
    "UPPER.PNG",
    "l" * 240 + ".png",
    b"latin1-\xe9.png".decode(errors="surrogateescape"),
    "\x1b[31mred.png",
)


def png(width: int, height: int, rows: bytes, *, depth: int = 8, color: int = 0, chunks: tuple = ()) -> bytes:
    """A PNG of raw rows, whatever its header says."""
    header = struct.pack(">IIBBBBB", width & 0xFFFFFFFF, height & 0xFFFFFFFF, depth, color, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def encoded(array: np.ndarray, kind: str, **options) -> bytes:
    """An array as a file's bytes."""
    return saved(Image.fromarray(array), kind, **options)


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def whole_files(rng: np.random.Generator) -> dict[str, bytes]:
    """Files as they should be, one of each kind that a dataset holds."""
    labels, palette = rng.integers(0, 19, SIZE, np.uint8), Image.fromarray(rng.integers(0, 19, SIZE, np.uint8))
    palette.putpalette(list(range(256)) * 3)
    rgb = rng.integers(0, 256, (*SIZE, 3), np.uint8)
    return {
        "rgb.jpg": encoded(rgb, "JPEG"),
        "progressive.jpg": encoded(rgb, "JPEG", progressive=True),
        "rgb.png": encoded(rgb, "PNG"),
        "labels.png": encoded(labels, "PNG"),
        "palette.png": saved(palette, "PNG"),
        "depth.png": encoded(rng.integers(0, 256, SIZE, np.uint8), "PNG"),
        "depth16.png": encoded(rng.integers(0, 65536, SIZE).astype(np.uint16), "PNG"),
    }


def damaged(whole: dict[str, bytes], rng: np.random.Generator) -> dict[str, bytes]:
    """Each file truncated, with flipped bits, with overwritten stretches, and with a stretch too many or too few."""
    files = {}
    for name, data in whole.items():
        stem, suffix = name.split(".")
        for index, cut in enumerate(np.linspace(1, len(data) - 1, 9).astype(int)):
            files[f"{stem}-cut{index}.{suffix}"] = data[:cut]
        for index in range(18):
            flipped = bytearray(data)
            for place in rng.integers(0, len(data), 1 + index // 3):
                flipped[place] ^= 1 << int(rng.integers(8))
            files[f"{stem}-flip{index}.{suffix}"] = bytes(flipped)
        for index in range(6):
            start = int(rng.integers(8, len(data)))
            filling = (b"\0", b"\xff")[index % 2] * 16 if index < 4 else rng.bytes(16)
            files[f"{stem}-fill{index}.{suffix}"] = data[:start] + filling + data[start + 16 :]
        files[f"{stem}-twice.{suffix}"] = data + data
        files[f"{stem}-gap.{suffix}"] = data[: len(data) // 3] + data[len(data) // 2 :]
        files[f"{stem}-tail.{suffix}"] = data + b"tail" * 50
    return files


def other_modes(rng: np.random.Generator) -> dict[str, bytes]:
    """Whole PNG and JPEG files of every other mode, size and depth, some of them used by nobody in good faith."""
    rgb = Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8))
    files = {f"mode-{mode}.png": saved(rgb.convert(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGBA", "I;16")}
    files |= {f"mode-{mode}.jpg": saved(rgb.convert(mode), "JPEG") for mode in ("CMYK", "L", "YCbCr")}
    files["transparent.png"] = saved(rgb.convert("P"), "PNG", transparency=bytes(range(0, 200, 2)))
    files["transparent-color.png"] = saved(rgb, "PNG", transparency=(1, 2, 3))
    files["rgb16.png"] = png(2, 2, (b"\0" + bytes(12)) * 2, depth=16, color=2)
    files["grey-alpha16.png"] = png(2, 2, (b"\0" + bytes(8)) * 2, depth=16, color=4)
    for bits in (1, 2, 4):
        files[f"grey{bits}.png"] = png(8, 2, (b"\0" + b"\x5a" * bits) * 2, depth=bits)
    for height, width in ((1, 1), (1, 64), (64, 1), (SIZE[0], SIZE[1] + 1)):
        files[f"size-{height}x{width}.png"] = encoded(np.zeros((height, width, 3), np.uint8), "PNG")
    for name, kind in {"animated.png": "PNG", "several.jpg": "MPO", "gif.png": "GIF", "webp.png": "WEBP"}.items():
        # Turned anew each time, for Pillow keeps one encoder's settings for the next.
        files[name] = saved(rgb.rotate(0), kind, save_all=True, append_images=[rgb.rotate(180), rgb.rotate(90)])
    for kind in ("BMP", "ICO", "PPM", "PDF", "TGA", "TIFF"):
        files[f"really-{kind}.jpg"] = saved(rgb.rotate(0), kind)
    for orientation in (0, 1, 6, 9, 65535):
        exif = Image.Exif()
        exif[0x0112] = orientation
        files[f"turned-{orientation}.jpg"] = saved(rgb.rotate(0), "JPEG", exif=exif)
    for index, tags in enumerate((b"", b"MM", b"II*\0" + b"\xff" * 20, bytes(40))):
        exif = b"Exif\0\0" + tags
        files[f"exif{index}.jpg"] = saved(rgb.rotate(0), "JPEG", exif=exif)
        files[f"exif{index}.png"] = png(2, 2, b"\0\0\0" * 2, chunks=((b"eXIf", tags),))
    return files


def forged() -> dict[str, bytes]:
    """Headers that lie, bombs, and what is no image at all."""
    files = {}
    for width, height in ((0, 0), (0, 5), (5, 0), (8193, 1), (1, 8193), (40_000, 40_000), (2**31 - 1, 1), (-1, -1)):
        files[f"claims-{width}x{height}.png"] = png(width, height, bytes(100))
    for index, (depth, color) in enumerate(((3, 0), (8, 1), (8, 5), (32, 0), (0, 0), (16, 3), (8, 255))):
        files[f"header{index}.png"] = png(4, 4, bytes(100), depth=depth, color=color)
    files["rows-missing.png"] = png(64, 64, bytes(65))
    files["rows-too-many.png"] = png(4, 4, bytes(10**6))
    files["bomb.png"] = png(16, 16, bytes(2 * 10**7))
    bomb = zlib.compress(bytes(10**8), 9)
    files["text-bomb.png"] = png(4, 4, bytes(20), chunks=((b"zTXt", b"a\0\0" + bomb),))
    files["profile-bomb.png"] = png(4, 4, bytes(20), chunks=((b"iCCP", b"a\0\0" + bomb),))
    files["many-texts.png"] = png(4, 4, bytes(20), chunks=tuple((b"tEXt", b"a\0" + b"b" * 90) for _ in range(2000)))
    jpeg = encoded(np.zeros((*SIZE, 3), np.uint8), "JPEG")
    place = jpeg.index(b"\xff\xc0") + 5
    for height, width in ((0, 0), (65535, 65535), (65500, 8), (8192, 8192)):
        claim = struct.pack(">HH", height, width)
        files[f"claims-{width}x{height}.jpg"] = jpeg[:place] + claim + jpeg[place + 4 :]
    files["markers.jpg"] = b"\xff\xd8" + b"\xff\xe1\0\x02" * 20_000
    files["empty.png"] = files["empty.jpg"] = b""
    files["one-byte.png"], files["signature.png"], files["start.jpg"] = b"\x89", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
    files["zeros.png"], files["page.png"] = bytes(5000), b"<!doctype html><title>404</title>"
    files["pointer.png"] = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
    files["vector.png"] = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    files["packed.png"] = gzip.compress(jpeg)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.jpg", jpeg)
    files["archive.jpg"] = archive.getvalue()
    files["program.png"] = b"\x7fELF" + bytes(60)
    files["postscript.jpg"] = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    return files


def write_corpus(folder: Path, *, special: bool = True) -> list[Path]:
    """Writes all of them, and returns their paths: some are links that lead nowhere, folders, pipes and devices.

    Args:
        folder: where to.
        special: whether what is no regular file is among them.
    """
    rng = np.random.default_rng(0)
    whole = whole_files(rng)
    files = {**whole, **damaged(whole, rng), **other_modes(rng), **forged()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    for name in AWKWARD_NAMES:
        (folder / name).write_bytes(whole["rgb.png"])
    if special:
        _write_special(folder, whole["rgb.png"])
    return sorted(folder.iterdir())


def _write_special(folder: Path, data: bytes) -> None:
    for name, target in {
        "loop.png": "loop.png",
        "loop-a.png": "loop-b.png",
        "loop-b.png": "loop-a.png",
        "dangling.png": "nowhere.png",
        "endless.png": "/dev/zero",
        "around.png": "around-b.png/x.png",
    }.items():
        (folder / name).symlink_to(target)
    (folder / "link.png").symlink_to("rgb.png")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    with open(folder / "sparse.png", "wb") as file:
        file.write(data)
        file.truncate(40 * 2**30)
