"""An evaluation as files: JSON for programs, Markdown and figures for people."""

import json
import math
from pathlib import Path
from typing import Any

from mtl_keras import viz
from mtl_keras.evaluation import MEASURES, Evaluation
from mtl_keras.files import write_text
from mtl_keras.viz.evaluation import plot_calibration, plot_distance_bands

_BAND_COLUMNS = ("silog", "rmse", "mae", "rel", "delta1")


def write(folder: Path, evaluation: Evaluation, facts: dict[str, Any]) -> dict[str, Any]:
    """Writes `metrics.json`, `README.md` and the figures into a folder.

    Args:
        folder: where they go.
        evaluation: what was measured.
        facts: what was evaluated and how, in the order in which it is told.

    Returns:
        The results, with the facts under `about`.
    """
    results = evaluation.results()
    semseg = evaluation.semseg
    if results["semseg"]["pixels"]:
        viz.save_figure(folder / "confusion.png", viz.plot_confusion(semseg.confusion, evaluation.spec.classes))
        figure = plot_calibration(semseg.bin_counts, semseg.bin_correct, semseg.bin_confidence)
        viz.save_figure(folder / "calibration.png", figure)
    if results["depth"]["bands"]:
        viz.save_figure(folder / "distance.png", plot_distance_bands(results["depth"]["bands"]))
    results = {"about": facts, **results, "confusion": semseg.confusion.tolist()}
    write_text(folder / "metrics.json", json.dumps(_without_nan(results), indent=2, ensure_ascii=False) + "\n")
    write_text(folder / "README.md", "\n".join(_markdown(results)) + "\n")
    return results


def _markdown(results: dict[str, Any]) -> list[str]:
    semseg, depth = results["semseg"], results["depth"]
    lines = [
        f"# {results['about']['model']} on {results['about']['dataset']}, {results['about']['split']}",
        "",
        *(f"- {name.replace('_', ' ')}: {value}" for name, value in results["about"].items()),
        "",
        "| grader | mIoU % | SI-logRMSE |",
        "|---|---|---|",
        f"| **{_percent(results['grader'])}** | {_percent(results['miou'])} | {_percent(results['silog'])} |",
        "",
        *_semseg_lines(semseg),
        *_depth_lines(depth),
        "## What the names mean",
        "",
        *(f"- `{name}`: {text}" for name, text in results["definitions"].items()),
    ]
    return lines


def _semseg_lines(semseg: dict[str, Any]) -> list[str]:
    lines = ["## Semantic segmentation", ""]
    if not semseg["pixels"]:
        return [*lines, "This split has no labels for it.", ""]
    return [
        *lines,
        f"{semseg['pixels']:,} labelled pixels.",
        "",
        "| measure | value |",
        "|---|---|",
        f"| miou: plain mean over all classes, % | {_percent(semseg['miou'])} |",
        f"| miou_present: mean over those that occur (cityscapesScripts), % | {_percent(semseg['miou_present'])} |",
        f"| pixel_accuracy, % | {_percent(semseg['pixel_accuracy'])} |",
        f"| calibration_error, % | {_percent(semseg['calibration_error'])} |",
        "",
        "| class | IoU % |",
        "|---|---|",
        *(f"| {_cell(name)} | {_percent(value)} |" for name, value in semseg["iou"].items()),
        "",
        "![confusion](confusion.png)",
        "![calibration](calibration.png)",
        "",
    ]


def _depth_lines(depth: dict[str, Any]) -> list[str]:
    lines = ["## Depth", ""]
    if not depth["pixels"]:
        return [*lines, "This split has no labels for it.", ""]
    units = {name: f" [{measure.unit}]" if measure.unit else "" for name, measure in MEASURES.items()}
    return [
        *lines,
        f"{depth['pixels']:,} valid pixels in {depth['images']:,} images.",
        "",
        "| measure | formula | mean of images | pooled |",
        "|---|---|---|---|",
        *(
            f"| {name}{units[name]} | {_cell(measure.formula)} "
            f"| {_number(depth['mean_of_images'][name])} | {_number(depth['pooled'][name])} |"
            for name, measure in MEASURES.items()
        ),
        "",
        f"| true depth | pixels | {' | '.join(f'{name}{units[name]}' for name in _BAND_COLUMNS)} |",
        f"|---|---|{'---|' * len(_BAND_COLUMNS)}",
        *(
            f"| {band} | {values['pixels']:,} | {' | '.join(_number(values[name]) for name in _BAND_COLUMNS)} |"
            for band, values in depth["bands"].items()
        ),
        "",
        "![errors by distance](distance.png)",
        "",
    ]


def _cell(text: str) -> str:
    """A text that a table's cell can hold."""
    return text.replace("|", "\\|")


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _number(value: float) -> str:
    """Two decimals, and four where the value is a ratio."""
    return f"{value:.4f}" if abs(value) < 1 else _percent(value)


def _without_nan(value: Any) -> Any:
    """JSON knows no NaN: what was not measured is null."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
