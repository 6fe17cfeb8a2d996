"""Presets: models by name, as data, with what each costs."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from mtl_keras.cost import count_parameters, multiply_adds
from zoo.builder import build


@dataclasses.dataclass(frozen=True)
class Preset:
    """A model that has a name.

    Args:
        about: what it is, in one line.
        arguments: of `zoo.build`.
    """

    about: str
    arguments: Mapping[str, Any]

    @property
    def flags(self) -> str:
        """Its arguments as flags of `trainers.fit`."""
        return " ".join(
            f"--{'' if value else 'no'}{key}" if isinstance(value, bool) else f"--{key}={value}"
            for key, value in self.arguments.items()
        )


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "joint_plain_resnet34": Preset(
            "joint without ASPP and skip connection (report, Table 5, first row)",
            {"arch": "joint", "encoder": "resnet34", "aspp": False, "skip": False},
        ),
        "joint_resnet34": Preset("joint topology (report, section 1)", {"arch": "joint", "encoder": "resnet34"}),
        "branched_resnet34": Preset(
            "branched topology (report, section 2)", {"arch": "branched", "encoder": "resnet34"}
        ),
        "distillation_resnet34": Preset(
            "distillation topology (report, section 3)", {"arch": "distillation", "encoder": "resnet34"}
        ),
    }
)


def names() -> list[str]:
    """The presets' names."""
    return list(PRESETS)


def presets(height: int = 256, width: int = 256) -> dict[str, dict[str, Any]]:
    """What each preset is and costs; builds every one of them, which takes seconds.

    Args:
        height: of the image that multiply-adds are counted for.
        width: likewise.

    Returns:
        By name: `about`, `arguments` of `zoo.build`, trainable `parameters`, and `multiply_adds` for one image.
    """
    found = {}
    for name, preset in PRESETS.items():
        model = build(**preset.arguments)
        found[name] = {
            "about": preset.about,
            "arguments": dict(preset.arguments),
            "parameters": count_parameters(model),
            "multiply_adds": multiply_adds(model, height, width),
        }
    return found
