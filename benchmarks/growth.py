"""How the time and the memory of a training step grow with batch, image side, classes and encoder, and their plot.

    python -m benchmarks.growth --backends jax

One thing varies at a time, the rest is as the flags say; each point is a new process, so that its peak is its own.
"""

import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks import contest
from mtl_keras.files import replacing
from trainers import cli

FLAGS = flags.FLAGS
contest.define_flags(rounds=2, steps=2)
flags.DEFINE_string("name", "growth", "name of the result")
flags.DEFINE_bool("peer", True, "measure PyTorch beside ours")

VARIED: Mapping[str, tuple[dict[str, Any], ...]] = {
    "images a batch": tuple({"batch_size": size} for size in (2, 4, 8, 16)),
    "image side": tuple({"height": side, "width": side} for side in (64, 128, 192, 256)),
    "classes": tuple({"num_classes": count} for count in (2, 19, 80, 150)),
    "encoder": tuple({"encoder": name} for name in ("resnet18", "resnet34", "resnet50", "resnet101")),
}


def contestants() -> list[contest.Contestant]:
    """The first of our backends, and PyTorch in channels_last, freed memory kept."""
    # Compiling takes memory, too: every point has to.
    return [contest.ours()[0].compiling(), *(contest.peers(compiled=False)[-1:] if FLAGS.peer else [])]


def measure(contestant: contest.Contestant) -> dict[str, float] | None:
    """Median seconds a step and peak MiB; None, after a line that says why, if it cannot run."""
    with contest.workers([contestant]) as started:
        seconds = contest.take_turns(started, "train", rounds=FLAGS.rounds, steps=FLAGS.steps)
        for name, worker in started.items():
            memory = worker.ask(do="memory")
            mib = memory["device_mib"] or memory["resident_mib"]
            return {"seconds": statistics.median(seconds[name]), "mib": mib}
    return None


def main(arguments: list[str]) -> None:
    del arguments
    points = []
    for what, values in VARIED.items():
        for changed in values:
            for contestant in contestants():
                measured = measure(replace(contestant, settings={**contestant.settings, **changed}))
                if measured is None:
                    continue
                value = changed.get("encoder", next(iter(changed.values())))
                points.append({"varied": what, "value": value, "name": contestant.name, **measured})
                print(
                    "{varied:>16} {value:>10} {name:<44} {seconds:8.3f} s {mib:8.0f} MiB".format(**points[-1]),
                    flush=True,
                )
    contest.check_measured(points)
    draw(points, Path(FLAGS.out) / f"{FLAGS.name}.png")
    contest.keep(FLAGS.name, {"settings": contest.common_settings(), "points": points})


def draw(points: list[dict[str, Any]], path: Path) -> None:
    """Draws seconds above and memory below, a column for each thing that varied."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * len(VARIED), 6), facecolor="white", layout="constrained")
    grid = figure.subplots(2, len(VARIED), squeeze=False)
    names = list(dict.fromkeys(point["name"] for point in points))
    for column, what in enumerate(VARIED):
        for row, (key, unit) in enumerate((("seconds", "seconds a step"), ("mib", "peak memory, MiB"))):
            axes = grid[row][column]
            for name, color in zip(names, ("#0072b2", "#d55e00")[: len(names)], strict=True):
                mine = [point for point in points if (point["varied"], point["name"]) == (what, name)]
                # Encoders lie on no scale, so that nothing is between them.
                line = "o" if what == "encoder" else "o-"
                axes.plot([p["value"] for p in mine], [p[key] for p in mine], line, color=color, label=name)
            axes.margins(y=0.1)
            axes.set_ylim(bottom=0)
            axes.set_xlabel(f"{what}, px" if what == "image side" else what)
            axes.tick_params(labelsize=8)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(color="#e5e7eb", linewidth=0.8)
            if column == 0:
                axes.set_ylabel(unit)
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside upper left", ncols=len(names), frameon=False)
    with replacing(path) as beside:
        figure.savefig(beside, dpi=150)


if __name__ == "__main__":
    cli.launch(main)
