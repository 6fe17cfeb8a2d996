"""What the presets cost."""

from typing import Any

from mtl_keras.cost import count_parameters, multiply_adds
from zoo.builder import build
from zoo.preset import PRESETS


def names() -> list[str]:
    """The presets' names; `presets` says what `zoo.build` takes for each."""
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
