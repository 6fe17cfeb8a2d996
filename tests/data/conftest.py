"""Small datasets in the layouts that users have."""

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtl_keras import data


def write_miniscapes(root: Path, counts: dict[str, int], size: tuple[int, int] = (72, 96), seed: int = 0) -> None:
    """A Miniscapes folder: train sample 1 has no depth, train sample 2 no semseg, and test has no labels."""
    rng = np.random.default_rng(seed)
    for split, count in counts.items():
        for kind in ("rgb", "semseg", "depth"):
            (root / split / kind).mkdir(parents=True)
        for i in range(count):
            image = rng.integers(0, 256, (*size, 3), np.uint8)
            Image.fromarray(image).save(root / split / "rgb" / f"{i}.jpg")
            if split == "test":
                continue
            labels = rng.choice(np.r_[0:19, 255], size).astype(np.uint8)
            if (split, i) != ("train", 2):
                picture = _with_palette(labels) if i % 2 else Image.fromarray(labels)
                picture.save(root / split / "semseg" / f"{i}.png")
            if (split, i) != ("train", 1):
                depth = rng.integers(0, 256, size, np.uint8)
                Image.fromarray(depth).save(root / split / "depth" / f"{i}.png")


def png_of(chunks: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A PNG file of chunks, each a kind and a content."""
    parts = [struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _with_palette(labels: np.ndarray) -> Image.Image:
    picture = Image.fromarray(labels)
    picture.putpalette([(7 * i) % 256 for i in range(768)])
    return picture


@pytest.fixture
def miniscapes_dir(tmp_path: Path) -> Path:
    """A fresh Miniscapes folder that a test may damage."""
    write_miniscapes(tmp_path / "source", {"train": 11, "val": 5, "test": 2})
    return tmp_path / "source"


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, data.Dataset]:
    """Prepared splits that tests only read."""
    root = tmp_path_factory.mktemp("miniscapes")
    write_miniscapes(root / "source", {"train": 23, "val": 5, "test": 2})
    return {
        split: data.load("miniscapes", split, data_dir=root / "source", prepared_dir=root / "prepared")
        for split in ("train", "val", "test")
    }
