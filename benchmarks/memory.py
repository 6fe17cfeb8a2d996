"""Peak memory of training: ours under every backend and plain PyTorch's, each in a process of its own.

    python -m benchmarks.memory --batch_size 8

On an accelerator the device's peak counts, on a CPU the process' resident memory.
"""

from absl import flags

from benchmarks import contest
from trainers import cli

FLAGS = flags.FLAGS
contest.define_flags(rounds=1, steps=3)
flags.DEFINE_string("name", "memory", "name of the result")


def main(arguments: list[str]) -> None:
    del arguments
    rows = []
    for contestant in [*contest.ours(), *contest.peers()]:
        # One at a time, so that none waits in memory that another could use.
        with contest.workers([contestant]) as started:
            contest.take_turns(started, "train", rounds=FLAGS.rounds, steps=FLAGS.steps)
            rows += [{"name": name, **worker.ask(do="memory")} for name, worker in started.items()]
        if rows and rows[-1]["name"] == contestant.name:
            print(f"{contestant.name:<52} {rows[-1]['device_mib'] or rows[-1]['resident_mib']:8.0f} MiB", flush=True)
    contest.check_measured(rows)
    contest.keep(FLAGS.name, {"settings": contest.common_settings(), "rows": rows})


if __name__ == "__main__":
    cli.launch(main)
