"""The model card that every run writes of itself."""

import importlib.metadata
import json
import math
from typing import Any

from mtl_keras import backend
from mtl_keras.cost import count_parameters, multiply_adds
from mtl_keras.files import write_text
from mtl_keras.model import MultiTaskModel
from trainers.config import RunConfig
from trainers.run_folder import RunFolder

_PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "grain", "tensorflow-datasets")
_METRICS = ("grader", "miou", "silog", "loss", "semseg_loss", "depth_loss")


def write(
    run: RunFolder,
    config: RunConfig,
    model: MultiTaskModel,
    history: list[dict[str, float]],
    best: dict[str, Any],
    baseline: dict[str, float] | None,
) -> None:
    """Writes `README.md` into a run's folder."""
    parameters = count_parameters(model)
    epochs = f"{len(history)} epoch{'s' if len(history) > 1 else ''}"
    columns = {"untrained": baseline or {}, f"best (epoch {best['epoch']})": best["metrics"]}
    columns = {name: values for name, values in columns.items() if values}
    lines = [
        f"# {run.path.name}",
        "",
        f"{config.arch} topology on {config.encoder}, {parameters:,} trainable parameters, trained on "
        f"{config.dataset} for {epochs} in {_duration(history[-1]['seconds'])} ({backend.describe()}).",
        "",
        f"An image of 256×256 takes {multiply_adds(model) / 1e9:.2f} G multiply-adds; predictions are class ids and "
        "metres for every pixel.",
        "",
        f"Classes by id: {', '.join(f'{index} {name}' for index, name in enumerate(model.spec.classes))}. "
        "Depth: {:g}–{:g} m.".format(*model.spec.depth_range),
        "",
        f"| validation | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
        *(_row(name, columns) for name in _METRICS),
        "",
        f"![predictions](pictures/epoch_{best['epoch']:03d}.png)",
        "![curves](pictures/curves.png)",
        "",
        "```python",
        "import zoo",
        f'model = zoo.load("{run.path}")',
        'prediction = model.predict_images("street.png")  # prediction.semseg, prediction.depth',
        "```",
        "",
        "## Settings",
        "```json",
        config.to_json().strip(),
        "```",
        "",
        "## Versions",
        "```json",
        json.dumps(_versions(), indent=2),
        "```",
        "",
    ]
    write_text(run.card, "\n".join(lines))


def _row(name: str, columns: dict[str, dict[str, float]]) -> str:
    # What the split has no labels of is not a number.
    cells = ("–" if math.isnan(values[name]) else f"{values[name]:.3f}" for values in columns.values())
    return f"| {name} | {' | '.join(cells)} |"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} m {seconds} s" if hours else f"{minutes} m {seconds} s"


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
