"""What a model must know of a dataset: its classes, their colours and the range of its depth."""

import colorsys
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from mtl_keras.data.depth_encoding import is_range
from mtl_keras.errors import UserError

IGNORE_LABEL = 255
SPLITS = ("train", "val", "test")

Color = tuple[int, int, int]

# Cityscapes' 19 evaluation classes, in the order of their train ids, with the colours of the benchmark
# (https://www.cityscapes-dataset.com).
CITYSCAPES_COLORS = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
}


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """The facts of a dataset that a model keeps in its config.

    Args:
        name: the dataset's name.
        classes: class names, in the order of their train ids.
        palette: one RGB colour (0–255) a class; if empty, Cityscapes' where it knows the class, else spread hues.
        depth_mean: mean of the valid depth, in metres; the network predicts depth normalised by it.
        depth_std: standard deviation of the valid depth, in metres.
        depth_range: least and greatest depth, in metres; predictions are clamped to it, in metrics and exports too.

    Raises:
        UserError: no classes, more than label images hold, a palette of another length, or depth that no dataset has.
    """

    name: str
    classes: tuple[str, ...] = tuple(CITYSCAPES_COLORS)
    palette: tuple[Color, ...] = ()
    depth_mean: float = 27.0727
    depth_std: float = 29.1264
    depth_range: tuple[float, float] = (4.0, 300.0)

    def __post_init__(self) -> None:
        if not self.palette:
            object.__setattr__(self, "palette", default_palette(self.classes))
        if not 1 <= len(self.classes) <= IGNORE_LABEL or len(self.palette) != len(self.classes):
            raise UserError(
                f"{self.name}: {len(self.classes)} classes in {len(self.palette)} colours; give 1 to {IGNORE_LABEL} "
                "classes, and a colour for each"
            )
        if not (is_range(self.depth_range) and 0 < self.depth_std < math.inf and math.isfinite(self.depth_mean)):
            raise UserError(
                f"{self.name}: depth of mean {self.depth_mean} m, standard deviation {self.depth_std} m and range "
                f"{self.depth_range} m; give finite numbers, a positive deviation and a rising, positive range"
            )

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def to_dict(self) -> dict[str, Any]:
        """The same facts as JSON knows them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> "DataSpec":
        """Reads what `to_dict` wrote, lists in the place of tuples included."""
        facts = dict(facts)
        for key in ("classes", "depth_range"):
            facts[key] = tuple(facts[key])
        facts["palette"] = tuple(tuple(color) for color in facts["palette"])
        return cls(**facts)


def default_palette(classes: Sequence[str]) -> tuple[Color, ...]:
    """Colours for classes that were given none: Cityscapes' own where the name is known, else spread hues."""
    return tuple(CITYSCAPES_COLORS.get(name) or numbered_color(index) for index, name in enumerate(classes))


def numbered_color(index: int) -> Color:
    """RGB 0–255 of a class without a colour: the golden ratio keeps neighbours far apart, however many there are."""
    red, green, blue = colorsys.hsv_to_rgb((index * 0.618034) % 1.0, 0.65, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)


MINISCAPES = DataSpec("miniscapes")


def numbered_classes(num_classes: int, like: DataSpec = MINISCAPES) -> DataSpec:
    """A spec for classes that have no names, in colours spread around the wheel; its depth is that of another spec."""
    names = tuple(f"class {index}" for index in range(num_classes))
    return dataclasses.replace(like, name="numbered", classes=names, palette=())
