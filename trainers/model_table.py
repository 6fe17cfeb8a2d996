"""The table of models that the README shows, made of what was counted, measured and trained."""

import dataclasses
import os
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import zoo
from mtl_keras import backend
from mtl_keras.checkpoints import read_tensors
from mtl_keras.cost import count_parameters, multiply_adds
from mtl_keras.encoders import output_stride
from mtl_keras.errors import UserError
from mtl_keras.files import read_values, write_json, write_text
from trainers.run_folder import open_run
from zoo.preset import PRESETS

BEGIN, END = "<!-- models:begin -->", "<!-- models:end -->"
SIDE = 256
_TIMED_RUNS = 20


@dataclasses.dataclass(frozen=True)
class Entry:
    """A run, as the table shows it.

    Args:
        name: of its folder.
        architecture: what `zoo.build` takes.
        num_classes: of its dataset.
        dataset: what it was trained on.
        epochs: how many it was to train.
        metrics: `grader`, `miou` and `silog` of its best epoch on the validation split.
        link: from the README to its card or page; None where neither lies in the README's folder.
    """

    name: str
    architecture: dict[str, Any]
    num_classes: int
    dataset: str
    epochs: int
    metrics: dict[str, float]
    link: str | None


@dataclasses.dataclass
class Facts:
    """What the table needs of runs and clocks, kept as JSON.

    Args:
        runs: by name.
        milliseconds: of one image, by `key`.
        machine: where these were measured, in words.
    """

    runs: dict[str, Entry] = dataclasses.field(default_factory=dict)
    milliseconds: dict[str, float] = dataclasses.field(default_factory=dict)
    machine: str | None = None

    @classmethod
    def read(cls, path: Path) -> "Facts":
        """Reads what `write` wrote, or nothing where there is no file; raises `UserError` for any other file."""
        if not path.is_file():
            return cls()
        try:
            values = read_values(path)
            runs = {name: Entry(**entry) for name, entry in values.pop("runs").items()}
            return cls(runs, **values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"facts: {path} is none of this command's files ({error}); remove it") from None

    def write(self, path: Path) -> None:
        write_json(path, dataclasses.asdict(self))


def read_run(path: str, page: str | None, home: Path) -> Entry:
    """What a run came to.

    Args:
        path: the run's folder.
        page: what to link to in the place of its card.
        home: the folder of the README.

    Raises:
        UserError: no run, or none that has a checkpoint.
    """
    run, config = open_run(path)
    if not run.best.is_file():
        raise UserError(f"{path}: no checkpoint in it yet; let an epoch finish")
    facts = read_tensors(run.best)[1]
    if not {"architecture", "spec", "metrics"} <= set(facts):
        raise UserError(f"{run.best}: says nothing of how it was trained; give a run that trainers.fit made")
    target = Path(page) if page else run.card
    if not target.is_file():
        raise UserError(f"page: {target} does not exist; give the page that shows the run")
    inside = target.resolve().is_relative_to(home.resolve())
    return Entry(
        name=run.path.resolve().name,
        architecture=facts["architecture"],
        num_classes=len(facts["spec"]["classes"]),
        dataset=config.dataset,
        epochs=config.epochs,
        metrics={name: facts["metrics"][name] for name in ("grader", "miou", "silog")},
        link=target.resolve().relative_to(home.resolve()).as_posix() if inside else None,
    )


def key(architecture: Mapping[str, Any]) -> str:
    """What tells the costs of one model from another's, in a line."""
    switches = [name for name in ("aspp", "skip") if not architecture.get(name, True)]
    stride = output_stride(tuple(architecture.get("dilation", (False, False, True))))
    words = [architecture["arch"], architecture["encoder"], f"stride {stride}", *(f"no {name}" for name in switches)]
    return ", ".join(words)


def table(facts: Facts) -> str:
    """The table in Markdown: every preset, in its row or the rows of its runs, then what else was trained."""
    rows, seen = [], set()
    for architecture in (preset.arguments for preset in PRESETS.values()):
        seen.add(key(architecture))
        runs = [entry for entry in facts.runs.values() if key(entry.architecture) == key(architecture)]
        rows += [_row(entry.architecture, entry, facts) for entry in runs] or [_row(architecture, None, facts)]
    others = [entry for entry in facts.runs.values() if key(entry.architecture) not in seen]
    rows += [_row(entry.architecture, entry, facts) for entry in others]
    clock = ["ms an image"] if facts.milliseconds else []
    heads = ["topology", "encoder", "output stride", "parameters", "multiply-adds", *clock]
    heads += ["grader / mIoU, % / SI-logRMSE", "trained on"]
    numbers = "---:"
    rule = ["---", "---", numbers, numbers, numbers, *(numbers for _ in clock), "---", "---"]
    lines = [heads, rule, *rows]
    notes = [
        f"Multiply-adds of one image of {SIDE}×{SIDE}; scores of one run each, of its best epoch on the validation "
        "split: its page tells how its encoder was pretrained, and what another seed came to."
    ]
    if facts.milliseconds:
        notes.append(f"Time: one such image through `predict_on_batch`, median of {_TIMED_RUNS}, {facts.machine}.")
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", " ".join(notes)])


def _row(architecture: Mapping[str, Any], entry: Entry | None, facts: Facts) -> list[str]:
    model = zoo.build(**architecture, num_classes=entry.num_classes if entry else None)
    switches = [name for name in ("aspp", "skip") if not architecture.get(name, True)]
    without = " without " + " and ".join({"aspp": "ASPP", "skip": "skip connection"}[s] for s in switches)
    cells = [
        f"`{architecture['arch']}`{without if switches else ''}",
        architecture["encoder"],
        str(model.output_stride),
        f"{count_parameters(model):,}",
        f"{multiply_adds(model, SIDE, SIDE) / 1e9:.2f} G",
    ]
    if facts.milliseconds:
        milliseconds = facts.milliseconds.get(key(architecture))
        cells.append("–" if milliseconds is None else f"{milliseconds:.0f}")
    if entry is None:
        return [*cells, "–", "–"]
    scores = " / ".join(f"{entry.metrics[name]:.2f}" for name in ("grader", "miou", "silog"))
    return [*cells, f"[{scores}]({entry.link})" if entry.link else scores, f"{entry.dataset}, {entry.epochs} epochs"]


def measure_times(facts: Facts) -> tuple[dict[str, float], str]:
    """The median milliseconds of an image for every architecture of the table, by `key`, and where."""
    image = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3)).astype("float32")
    found = {}
    presets = (preset.arguments for preset in PRESETS.values())
    for architecture in [*presets, *(entry.architecture for entry in facts.runs.values())]:
        if key(architecture) in found:
            continue
        model = zoo.build(**architecture)
        model.predict_on_batch(image)
        seconds = []
        for _ in range(_TIMED_RUNS):
            started = time.perf_counter()
            model.predict_on_batch(image)
            seconds.append(time.perf_counter() - started)
        found[key(architecture)] = round(1000 * statistics.median(seconds), 1)
    return found, f"float32, {backend.describe()}"


def read_page(path: Path) -> str:
    """A page that has a place for the table; raises `UserError` for any other."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise UserError(f"readme: {path} cannot be read ({reason}); give the page that holds the table") from None
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise UserError(f"readme: {path} has no place for the table; add the lines {BEGIN} and {END}")
    return text


def put_table(text: str, made: str) -> str:
    """The page with the table between its markers."""
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    return f"{before}{BEGIN}\n{made}\n{after}"


def write_page(path: Path, text: str) -> None:
    """Writes the page; raises `UserError` where it cannot be."""
    try:
        write_text(path, text)
    except OSError as error:
        raise UserError(f"readme: {path} cannot be written ({os.strerror(error.errno or 0)})") from None
