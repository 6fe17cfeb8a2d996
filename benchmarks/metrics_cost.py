"""What mIoU and SI-logRMSE cost a training step, and how validation compares with the forward passes of training.

    python -m benchmarks.metrics_cost

The same network trains with its metrics and without, in turns; and the metrics are computed alone, as their own
program, of made-up predictions, which other work on the machine disturbs least.
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


def with_metrics(started: dict[str, contest.Worker]) -> dict[str, contest.Worker]:
    """Those among the started that compute metrics."""
    return {name: worker for name, worker in started.items() if not name.endswith("no metrics")}


def main(arguments: list[str]) -> None:
    del arguments
    with contest.workers(contestants()) as started:
        seconds = contest.take_turns(started, "train", rounds=FLAGS.rounds, steps=FLAGS.steps)
        validation = contest.take_turns(started, "evaluate", rounds=FLAGS.rounds, steps=FLAGS.steps)
        alone = contest.take_turns(with_metrics(started), "measure", rounds=FLAGS.rounds, steps=10 * FLAGS.steps)
    rows = contest.summarise(seconds)
    contest.print_rows(rows)
    costs = {}
    for name in (name for name in seconds if f"{name}, no metrics" in seconds):
        # Each turn beside its neighbour: what disturbs one disturbs both.
        pairs = zip(seconds[name], seconds[f"{name}, no metrics"], strict=True)
        shares = [with_them / without - 1 for with_them, without in pairs]
        costs[name] = {
            "alone": statistics.median(alone[name]) / statistics.median(seconds[name]),
            "share_of_step": statistics.median(shares),
            "lowest": min(shares),
            "highest": max(shares),
            "validation_over_step": statistics.median(validation[name]) / statistics.median(seconds[name]),
        }
        alone_share, *turns, validation_share = (f"{100 * share:.1f} %" for share in costs[name].values())
        print(
            f"{name}: metrics alone take {alone_share} of a step; with them it takes {turns[0]} more, {turns[1]} to "
            f"{turns[2]} in its turns; a validation step takes {validation_share} of a training step"
        )
    contest.keep(FLAGS.name, {"settings": contest.common_settings(), "rows": rows, "costs": costs})


if __name__ == "__main__":
    cli.launch(main)
