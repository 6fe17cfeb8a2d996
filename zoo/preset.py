"""Presets: models by name, as data."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any


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

    @property
    def call(self) -> str:
        """The call that builds it."""
        return f"zoo.build({', '.join(f'{name}={value!r}' for name, value in self.arguments.items())})"


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
