"""Presets: models by name, as data, with what each costs and was trained on."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError

from mtl_keras.cost import count_parameters, multiply_adds
from mtl_keras.errors import UserError, first_line
from zoo.builder import build


@dataclasses.dataclass(frozen=True)
class Preset:
    """A model that has a name.

    Args:
        about: what it is, in one line.
        arguments: of `zoo.build`.
        trained_on: the dataset of its weights; None while there are none to get.
        repository: where its weights are on the Hugging Face hub; None while there are none to get.
    """

    about: str
    arguments: Mapping[str, Any]
    trained_on: str | None = None
    repository: str | None = None


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
        By name: `about`, `arguments` of `zoo.build`, trainable `parameters`, `multiply_adds` for one image, and
        `trained_on`, None where there are no weights to get.
    """
    found = {}
    for name, preset in PRESETS.items():
        model = build(**preset.arguments)
        found[name] = {
            "about": preset.about,
            "arguments": dict(preset.arguments),
            "parameters": count_parameters(model),
            "multiply_adds": multiply_adds(model, height, width),
            "trained_on": preset.trained_on,
        }
    return found


def download(name: str) -> Path:
    """The checkpoint of a preset, from the hub or its cache.

    Raises:
        UserError: there are no weights of it to get, or the hub cannot be reached.
    """
    preset = PRESETS[name]
    if preset.repository is None:
        raise UserError(
            f"preset '{name}': no weights of it are published; train it with `python -m trainers.fit "
            f"{_flags(preset)}`, or build it untrained with zoo.build"
        )
    try:
        return Path(huggingface_hub.hf_hub_download(preset.repository, "checkpoints/best.safetensors"))
    except (HfHubHTTPError, OSError) as error:
        raise UserError(
            f"preset '{name}': {preset.repository} cannot be had ({first_line(error)}); check the connection"
        ) from None


def _flags(preset: Preset) -> str:
    return " ".join(
        f"--{'' if value else 'no'}{key}" if isinstance(value, bool) else f"--{key}={value}"
        for key, value in preset.arguments.items()
    )
