"""Seconds of a training step: ours under every backend and plain PyTorch's, in turns.

    python -m benchmarks.train_step --arch branched --batch_size 4 --size 128x256

A step of ours is one of `fit`: forward, losses, backward, Adam and the metrics. PyTorch's has no metrics.
"""

from absl import flags

from benchmarks import contest
from mtl_keras.errors import UserError
from trainers import cli

FLAGS = flags.FLAGS
contest.define_flags(rounds=5, steps=3)
flags.DEFINE_string("name", "train_step", "name of the result")


def main(arguments: list[str]) -> None:
    del arguments
    with contest.workers([*contest.ours(), *contest.peers()]) as started:
        seconds = contest.take_turns(started, "train", rounds=FLAGS.rounds, steps=FLAGS.steps)
        facts = {name: worker.facts for name, worker in started.items()}
        memory = {name: worker.ask(do="memory") for name, worker in started.items()}
        flops = {}
        for name, worker in started.items():
            try:
                flops[name] = worker.ask(do="matmul")["flops"]
            except UserError as error:
                print(f"no matrix product: {error}", flush=True)
    rows = contest.summarise(seconds)
    # What PyTorch computes is the network by its definition; ours comes to the same with fewer operations.
    costs = [fact["multiply_adds"] for fact in facts.values() if "multiply_adds" in fact]
    contest.check_measured(costs)
    contest.check_measured(flops)
    peak = max(flops.values())
    for row in rows:
        cost = facts[row["name"]].get("computed_multiply_adds", costs[0])
        # A backward pass is two forward passes: one for the weights, one for the inputs.
        flop = 3 * 2 * FLAGS.batch_size * cost
        row |= {"flop": flop, "share_of_peak": flop / row["median"] / peak, **memory[row["name"]]}
    contest.print_rows(rows)
    print(f"\nmatmul peak {peak / 1e9:.0f} GFLOP/s; shares of it:")
    print("  ".join(f"{row['name']} {100 * row['share_of_peak']:.0f} %" for row in rows))
    settings = {**contest.common_settings(), "rounds": FLAGS.rounds, "steps": FLAGS.steps}
    contest.keep(FLAGS.name, {"settings": settings, "facts": facts, "matmul": flops, "rows": rows})


if __name__ == "__main__":
    cli.launch(main)
