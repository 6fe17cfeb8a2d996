"""Seconds from the start of a process to the end of its first training step: imports, building, tracing, compiling.

    python -m benchmarks.startup --arch branched

Every turn starts new processes. JAX is measured twice: with nothing compiled before, and with its cache on disk.
"""

import statistics
import tempfile
import time
from dataclasses import replace

from absl import flags

from benchmarks import contest
from trainers import cli

FLAGS = flags.FLAGS
contest.define_flags(rounds=3, steps=1)
flags.DEFINE_string("name", "startup", "name of the result")


def contestants(cache: str) -> list[contest.Contestant]:
    """Ours and PyTorch's; under JAX, with the compilation cache in `cache` and with an empty one."""
    found = []
    for contestant in [*contest.ours(), *contest.peers(compiled=False)]:
        if contestant.environment.get("KERAS_BACKEND") == "jax":
            warm = contestant.with_environment(JAX_COMPILATION_CACHE_DIR=cache)
            found.append(replace(warm, name=f"{contestant.name}, compiled before"))
        found.append(contestant.compiling())
    return found


def first_step(contestant: contest.Contestant) -> float | None:
    """Seconds to the end of the first step; None, after a line that says why, if it cannot start."""
    begin = time.perf_counter()
    with contest.workers([contestant]) as started:
        for worker in started.values():
            worker.ask(do="train", steps=1)
            return time.perf_counter() - begin
    return None


def main(arguments: list[str]) -> None:
    del arguments
    with tempfile.TemporaryDirectory() as cache:
        measured = contestants(cache)
        for contestant in measured:
            if contestant.name.endswith("compiled before"):
                first_step(contestant)
        seconds: dict[str, list[float]] = {}
        for _ in range(FLAGS.rounds):
            for contestant in measured:
                if (value := first_step(contestant)) is not None:
                    seconds.setdefault(contestant.name, []).append(value)
    rows = contest.summarise(seconds)
    for name, values in seconds.items():
        print(f"{name:<44} {statistics.median(values):6.1f} s   ({min(values):.1f} to {max(values):.1f})")
    contest.keep(FLAGS.name, {"settings": contest.common_settings(), "rows": rows})


if __name__ == "__main__":
    cli.launch(main)
