"""`streets`: the built-in dataset of rendered street scenes, which needs no download.

Every scene follows from its seed, and each split has seeds of its own.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow_datasets as tfds

from mtl_keras.data import images
from mtl_keras.data.builder import ExampleBuilder
from mtl_keras.data.depth_encoding import INVERSE_DEPTH_RANGE, encode_inverse_depth
from mtl_keras.data.examples import Example, depth_sums
from mtl_keras.data.images import BadFile
from mtl_keras.data.spec import DataSpec
from mtl_keras.data.street_scenes import render_scene

# Far more seeds than any configuration draws.
_SEEDS_A_SPLIT = 100_000_000


@dataclasses.dataclass(eq=False)
class StreetsConfig(tfds.core.BuilderConfig):
    """How large and how many.

    Args:
        size: (height, width) of a scene.
        counts: scenes in each split.
        first: the number of each split's first scene. Scenes of one number are alike but for their size.
    """

    size: tuple[int, int] = (128, 256)
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    first: int = 0


def _config(name: str, size: tuple[int, int], train: int, val: int, test: int, first: int = 0) -> StreetsConfig:
    counts = {"train": train, "val": val, "test": test}
    return StreetsConfig(name=name, description=f"{size[0]}×{size[1]} px", size=size, counts=counts, first=first)


class Streets(ExampleBuilder):
    """Rendered street scenes with all 19 Cityscapes classes and exact depth."""

    PROCESSES = True
    BUILDER_CONFIGS = [
        _config("demo", (128, 256), 400, 50, 50),
        _config("medium", (256, 512), 2_000, 200, 200),
        _config("full", (360, 720), 20_000, 2_500, 2_500),
        # To pretrain encoders on: scenes that no other configuration has.
        _config("pretraining", (128, 256), 2_000, 50, 50, first=1_000_000),
    ]

    def data_spec(self) -> DataSpec:
        return DataSpec("streets")

    def depth_encoding(self) -> str:
        return "inverse"

    def jobs(self) -> dict[str, Sequence[int]]:
        starts = range(self.builder_config.first, 10 * _SEEDS_A_SPLIT, _SEEDS_A_SPLIT)
        counts = self.builder_config.counts
        return {split: range(start, start + counts[split]) for split, start in zip(counts, starts, strict=False)}

    def reader(self) -> Callable[[Any], Example | list[BadFile]]:
        return functools.partial(render_example, size=self.builder_config.size)


def render_example(seed: int, size: tuple[int, int]) -> Example:
    """Renders the scene of a seed and encodes it.

    Args:
        seed: which scene.
        size: (height, width) in pixels.
    """
    scene = render_scene(seed, *size)
    codes = encode_inverse_depth(scene.depth)
    return Example(
        id=f"{seed % _SEEDS_A_SPLIT:06d}",
        image=images.encode_jpeg(scene.image),
        semseg=images.encode_png(scene.semseg),
        depth=images.encode_png(codes),
        depth_scale=1.0,
        depth_sums=depth_sums(codes, "inverse", 1.0, INVERSE_DEPTH_RANGE),
    )
