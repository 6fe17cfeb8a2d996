"""What mIoU and SI-logRMSE cost a training step, and what a validation step takes of a training step.

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

# Behind the name of one that trains without metrics.
WITHOUT = ", no metrics"


def contestants() -> list[contest.Contestant]:
    """Every backend with the metrics and without."""
    with_them = contest.ours()
    without = [replace(c, name=c.name + WITHOUT, settings={**c.settings, "metrics": False}) for c in with_them]
    return [c for pair in zip(with_them, without, strict=True) for c in pair]


def main(arguments: list[str]) -> None:
    del arguments
    with contest.workers(contestants()) as started:
        seconds = contest.take_turns(started, "train", rounds=FLAGS.rounds, steps=FLAGS.steps)
        measuring = {name: worker for name, worker in started.items() if not name.endswith(WITHOUT)}
        validation = contest.take_turns(measuring, "evaluate", rounds=FLAGS.rounds, steps=FLAGS.steps)
        alone = contest.take_turns(measuring, "measure", rounds=FLAGS.rounds, steps=10 * FLAGS.steps)
    rows = contest.summarise(seconds)
    contest.print_rows(rows)
    costs = {}
    for name in (name for name in seconds if name + WITHOUT in seconds):
        # Each turn beside its neighbour: what disturbs one disturbs both.
        pairs = zip(seconds[name], seconds[name + WITHOUT], strict=True)
        shares = [with_them / without - 1 for with_them, without in pairs]
        costs[name] = {
            "alone": statistics.median(alone[name]) / statistics.median(seconds[name]),
            "share_of_step": statistics.median(shares),
            "lowest": min(shares),
            "highest": max(shares),
            "validation_over_step": statistics.median(validation[name]) / statistics.median(seconds[name]),
        }
        said = {key: f"{100 * share:.1f} %" for key, share in costs[name].items()}
        print(
            f"{name}: metrics alone take {said['alone']} of a step; with them it takes {said['share_of_step']} more, "
            f"{said['lowest']} to {said['highest']} in its turns; a validation step takes "
            f"{said['validation_over_step']} of a training step"
        )
    contest.keep(FLAGS.name, {"settings": contest.common_settings(), "rows": rows, "costs": costs})


if __name__ == "__main__":
    cli.launch(main)
