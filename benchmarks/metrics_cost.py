"""What mIoU and SI-logRMSE cost a training step, and how validation compares with the forward passes of training.

    python -m benchmarks.metrics_cost

The same network trains with its metrics and without, in turns.
"""

import statistics
from dataclasses import replace

from absl import flags

from benchmarks import contest
from trainers import cli

FLAGS = flags.FLAGS
contest.define_flags(rounds=8, steps=3)
flags.DEFINE_string("name", "metrics_cost", "name of the result")


def contestants() -> list[contest.Contestant]:
    """Every backend with the metrics and without."""
    with_them = contest.ours()
    without = [replace(c, name=f"{c.name}, no metrics", settings={**c.settings, "metrics": False}) for c in with_them]
    return [c for pair in zip(with_them, without, strict=True) for c in pair]


def main(arguments: list[str]) -> None:
    del arguments
    with contest.workers(contestants()) as started:
        seconds = contest.take_turns(started, "train", rounds=FLAGS.rounds, steps=FLAGS.steps)
        validation = contest.take_turns(started, "evaluate", rounds=FLAGS.rounds, steps=FLAGS.steps)
    rows = contest.summarise(seconds)
    contest.print_rows(rows)
    costs = {}
    for name in (name for name in seconds if f"{name}, no metrics" in seconds):
        # Each turn beside its neighbour: what disturbs one disturbs both.
        pairs = zip(seconds[name], seconds[f"{name}, no metrics"], strict=True)
        shares = [with_them / without - 1 for with_them, without in pairs]
        costs[name] = {
            "share_of_step": statistics.median(shares),
            "lowest": min(shares),
            "highest": max(shares),
            "validation_over_step": statistics.median(validation[name]) / statistics.median(seconds[name]),
        }
        print(
            f"{name}: metrics cost {100 * costs[name]['share_of_step']:.1f} % of a step, {100 * min(shares):.1f} to "
            f"{100 * max(shares):.1f} % in its turns; a validation step takes "
            f"{100 * costs[name]['validation_over_step']:.0f} % of a training step"
        )
    contest.keep(FLAGS.name, {"settings": contest.common_settings(), "rows": rows, "costs": costs})


if __name__ == "__main__":
    cli.launch(main)
