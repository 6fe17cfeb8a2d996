"""Kills a run again and again, and compares what comes out with a run that nothing interrupted.

    python -m benchmarks.chaos --kills 50

A run of `benchmarks.tiny_run` is killed (SIGKILL) at random steps, while a checkpoint is being written, in the middle
of an epoch's end and before its first step, and asked to stop (SIGTERM); each time it is started again with `--resume`.
In the end its last state, its best weights, its model, its table and its curves must be those of the other run, to the
last bit and without a row or event too few or too many. The exit status is 1 if they are not.
"""

import collections
import dataclasses
import io
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
from absl import flags

from benchmarks import tiny_run
from benchmarks.tiny_run import STEPS_PER_EPOCH
from mtl_keras.callbacks import read_metrics
from mtl_keras.checkpoints import StateFiles, read_tensors
from trainers import cli
from trainers.run_folder import RunFolder

KINDS = ("step", "save", "epoch's end", "start", "SIGTERM")
SAVE_STEPS = 3
# What SIGTERM may take, by the project's promise.
SECONDS_TO_STOP = 10.0
# Clocks differ between two runs; everything else is a function of the configuration.
CLOCKS = {"seconds", "wait_for_data_percent"}

# In a process of its own, without TensorFlow, which TensorBoard would import.
_READ_EVENTS = """
import json, sys
sys.modules["tensorflow"] = None
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.util import tensor_util
found = {}
for folder in sys.argv[1:]:
    events = EventAccumulator(folder, size_guidance={"tensors": 0})
    events.Reload()
    numbers = lambda proto: hash(repr(tensor_util.make_ndarray(proto).tolist()))
    tags = events.Tags()["tensors"]
    found[folder] = {tag: [(e.step, numbers(e.tensor_proto)) for e in events.Tensors(tag)] for tag in tags}
print(json.dumps(found))
"""


@dataclasses.dataclass(frozen=True)
class Kill:
    """An interruption: what kind of, and the step that it waits for."""

    kind: str
    step: int


@dataclasses.dataclass
class Outcome:
    """What was seen of the killed run.

    Args:
        kills: kinds of the interruptions that hit a living process.
        repeated: for each sitting after the first, how many steps it did again.
        seconds_to_stop: from each SIGTERM to the end of the process.
        lost: rows and events that are missing.
        doubled: rows and events that are there twice.
        differences: whatever else is not as in the whole run, a line each.
    """

    kills: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    repeated: list[int] = dataclasses.field(default_factory=list)
    seconds_to_stop: list[float] = dataclasses.field(default_factory=list)
    lost: list[str] = dataclasses.field(default_factory=list)
    doubled: list[str] = dataclasses.field(default_factory=list)
    differences: list[str] = dataclasses.field(default_factory=list)

    @property
    def equal(self) -> bool:
        return not (self.lost or self.doubled or self.differences)


class Sitting:
    """One process of a run, from its start to its end.

    Args:
        folder: what the run lies in.
        data: the dataset.
        arguments: flags.
    """

    def __init__(self, folder: Path, data: Path, *arguments: str):
        self.runs = folder / "runs"
        self._log = folder / "steps.txt"
        self._seen = self._log.stat().st_size if self._log.exists() else 0
        self.output = folder / "output.txt"
        variables = tiny_run.environment(**{tiny_run.STEPS_FILE: str(self._log), tiny_run.SLOW_DISK: "0.01"})
        run = self.run
        started = [f"--resume={run.path}"] if run else [*tiny_run.flags(data), f"--runs_dir={self.runs}", *arguments]
        with open(self.output, "w", encoding="utf-8") as output:
            self.process = subprocess.Popen(
                tiny_run.command(*started), cwd=tiny_run.ROOT, env=variables, stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def run(self) -> RunFolder | None:
        """The run, once its folder is there."""
        found = list(self.runs.glob("*/config.json"))
        return RunFolder(found[0].parent) if found else None

    def steps(self) -> list[tuple[int, float]]:
        """The steps that this process has done, and when."""
        if not self._log.exists():
            return []
        with open(self._log, encoding="utf-8") as log:
            log.seek(self._seen)
            lines = [line.split() for line in log if line.endswith("\n")]
        return [(int(step), float(second)) for step, second in lines]

    def wait_for(self, condition: Callable[[], bool]) -> bool:
        """Polls until a condition holds (True) or the process has ended (False)."""
        while self.process.poll() is None:
            if condition():
                return True
            time.sleep(0.0005)
        return False

    def reached(self, step: int) -> bool:
        """Waits until a step is done."""
        return self.wait_for(lambda: self._log.exists() and bool(done := self.steps()) and done[-1][0] >= step)

    def is_saving_since(self, step: int) -> Callable[[], bool]:
        """Whether a checkpoint is being written, or none was seen for two saves' steps from a step on."""
        return lambda: self.is_saving() or self.steps()[-1][0] > step + 2 * SAVE_STEPS

    def is_saving(self) -> bool:
        """Whether a checkpoint is being written."""
        run = self.run
        names = os.listdir(run.checkpoints) if run and run.checkpoints.is_dir() else []
        return any(name.startswith(".step-") for name in names)


def planned(kills: int, total_steps: int, rng: np.random.Generator, kinds: Sequence[str]) -> list[Kill]:
    """Interruptions spread over a run, each kind in turn."""
    last = total_steps - 2 * STEPS_PER_EPOCH
    steps = np.sort(rng.integers(1, last, kills))
    order = itertools.chain.from_iterable(rng.permutation(kinds) for _ in range(-(-kills // len(kinds))))
    return [Kill(str(kind), int(step)) for kind, step in zip(order, steps, strict=False)]


def train_whole(folder: Path, data: Path, epochs: int) -> Sitting:
    """The run that nothing interrupts."""
    sitting = Sitting(folder, data, f"--epochs={epochs}", f"--save_steps={SAVE_STEPS}")
    if sitting.process.wait() != 0:
        raise RuntimeError(sitting.output.read_text(encoding="utf-8")[-2000:])
    return sitting


def train_under_fire(
    folder: Path, data: Path, epochs: int, plan: list[Kill], rng: np.random.Generator, epoch_end: float, startup: float
) -> Outcome:
    """The same run under the kills of a plan, started again until it is done.

    Args:
        folder: where the run and its logs go.
        data: the dataset.
        epochs: epochs of the run.
        plan: the kills.
        rng: what their moments are drawn with.
        epoch_end: seconds that an epoch's end takes.
        startup: seconds from a process's start to its first step.
    """
    outcome, done = Outcome(), 0
    for kill in [*plan, None]:
        sitting = Sitting(folder, data, f"--epochs={epochs}", f"--save_steps={SAVE_STEPS}")
        if kill:
            _strike(sitting, kill, outcome, rng, epoch_end, startup)
        status = sitting.process.wait()
        steps = [step for step, _ in sitting.steps()]
        if steps:
            outcome.repeated.append(max(0, done - steps[0] + 1))
            done = steps[-1]
        expected = {None: 0, "SIGTERM": cli.EXIT_STOPPED}.get(kill and kill.kind, -signal.SIGKILL)
        if status != expected:
            said = sitting.output.read_text(encoding="utf-8").strip().splitlines()
            outcome.differences.append(f"{kill}: status {status}, expected {expected}: {said[-1] if said else ''}")
        place = f"{kill.kind}, at step {done}" if kill else f"done, at step {done}"
        print(f"{sum(outcome.kills.values()):4d} kills  {place}", flush=True)
    return outcome


def _strike(sitting: Sitting, kill: Kill, outcome: Outcome, rng, epoch_end: float, startup: float) -> None:
    """Waits for a kill's moment, and kills."""
    if kill.kind == "start":
        moment = time.monotonic() + rng.uniform(0, startup)
        hit = sitting.wait_for(lambda: time.monotonic() >= moment)
    elif kill.kind == "save":
        hit = sitting.reached(kill.step) and sitting.wait_for(sitting.is_saving_since(kill.step))
    elif kill.kind == "epoch's end":
        hit = sitting.reached(-(-kill.step // STEPS_PER_EPOCH) * STEPS_PER_EPOCH)
        time.sleep(rng.uniform(0, epoch_end))
    else:
        hit = sitting.reached(kill.step)
        time.sleep(rng.uniform(0, epoch_end / STEPS_PER_EPOCH))
    if not hit or sitting.process.poll() is not None:
        return
    outcome.kills[kill.kind] += 1
    sent = time.monotonic()
    sitting.process.send_signal(signal.SIGTERM if kill.kind == "SIGTERM" else signal.SIGKILL)
    sitting.process.wait()
    if kill.kind == "SIGTERM":
        outcome.seconds_to_stop.append(time.monotonic() - sent)


def epoch_end_seconds(steps: list[tuple[int, float]]) -> float:
    """How long an epoch's end takes: from its last step to the next one's first."""
    pauses = [after - at for (step, at), (_, after) in itertools.pairwise(steps) if step % STEPS_PER_EPOCH == 0]
    return statistics.median(pauses)


def compare(run: RunFolder, whole: RunFolder, epochs: int, outcome: Outcome) -> None:
    """Notes every way in which a run is not the whole one."""
    _compare_arrays("last state", _last_state(run), _last_state(whole), outcome)
    (weights, facts), (expected, expected_facts) = read_tensors(run.best), read_tensors(whole.best)
    _compare_arrays("best weights", weights, expected, outcome)
    if facts != expected_facts:
        outcome.differences.append("best weights: their facts differ")
    _compare_arrays("model.keras", dict(_keras_arrays(run.model)), dict(_keras_arrays(whole.model)), outcome)
    rows, expected_rows = (_without_clocks(read_metrics(folder.metrics)) for folder in (run, whole))
    _compare_steps("metrics.csv", [int(row["epoch"]) for row in rows], range(1, epochs + 1), outcome)
    outcome.differences += [
        f"metrics.csv: epoch {row['epoch']:.0f} differs" for row in rows if row not in expected_rows
    ]
    _compare_events(run, whole, outcome)
    leftovers = [path.name for path in run.path.rglob(".*") if path.is_file()]
    if leftovers:
        outcome.differences.append(f"files under way lie about: {', '.join(leftovers[:4])} …")


def _last_state(run: RunFolder) -> dict[str, np.ndarray]:
    state = StateFiles(run.checkpoints).load()
    if state is None:
        raise RuntimeError(f"{run.checkpoints}: no whole state in it")
    return {**state[1], "step": np.array(state[0])}


def _keras_arrays(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    with zipfile.ZipFile(path) as file, h5py.File(io.BytesIO(file.read("model.weights.h5"))) as weights:
        found: list[tuple[str, np.ndarray]] = []
        weights.visititems(lambda name, item: found.append((name, np.array(item))) if hasattr(item, "shape") else None)
        yield from found


def _compare_arrays(what: str, actual: dict, expected: dict, outcome: Outcome) -> None:
    if set(actual) != set(expected):
        outcome.differences.append(f"{what}: holds {len(actual)} arrays, expected {len(expected)}")
    for name in sorted(set(actual) & set(expected)):
        if actual[name].tobytes() != expected[name].tobytes():
            outcome.differences.append(f"{what}: {name} differs")


def _compare_steps(what: str, steps: Iterable[int], expected: Iterable[int], outcome: Outcome) -> None:
    actual, wanted = collections.Counter(steps), collections.Counter(expected)
    outcome.lost += [f"{what}: epoch {epoch}" for epoch in (wanted - actual).elements()]
    outcome.doubled += [f"{what}: epoch {epoch}" for epoch in (actual - wanted).elements()]


def _compare_events(run: RunFolder, whole: RunFolder, outcome: Outcome) -> None:
    folders = [str(run.tensorboard), str(whole.tensorboard)]
    # The hashes of two folders are compared, so both are read under one seed.
    variables = {**os.environ, "PYTHONHASHSEED": "0"}
    reader = subprocess.run(
        [sys.executable, "-c", _READ_EVENTS, *folders], env=variables, check=True, capture_output=True, text=True
    )
    actual, expected = (json.loads(reader.stdout)[folder] for folder in folders)
    if set(actual) != set(expected):
        outcome.differences.append(f"tensorboard: has the tags {sorted(set(actual) ^ set(expected))} in one run alone")
    for tag in set(actual) & set(expected):
        steps, wanted = ([step for step, _ in events[tag]] for events in (actual, expected))
        _compare_steps(f"tensorboard {tag}", steps, wanted, outcome)
        if tag not in CLOCKS and sorted(actual[tag]) != sorted(expected[tag]):
            outcome.differences.append(f"tensorboard: {tag} differs")


def _without_clocks(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name not in CLOCKS} for row in rows]


def chaos(folder: Path, kills: int, epochs: int, seed: int = 0, kinds: Sequence[str] = KINDS) -> Outcome:
    """Trains a run whole and under fire, and compares the two.

    Args:
        folder: an empty folder to work in.
        kills: how many interruptions.
        epochs: epochs of 5 steps each.
        seed: of the kills' kinds and moments.
        kinds: which of `KINDS`.
    """
    rng = np.random.default_rng(seed)
    data = folder / "data"
    tiny_run.write_dataset(data / "source")
    names = ("warm-up", "whole", "killed")
    for name in names:
        (folder / name).mkdir()
    # Compiles, and prepares the data.
    train_whole(folder / "warm-up", data, epochs=1)
    started = time.monotonic()
    whole = train_whole(folder / "whole", data, epochs)
    steps = whole.steps()
    plan = planned(kills, epochs * STEPS_PER_EPOCH, rng, kinds)
    outcome = train_under_fire(
        folder / "killed", data, epochs, plan, rng, epoch_end_seconds(steps), steps[0][1] - started
    )
    killed = list((folder / "killed" / "runs").glob("*/config.json"))
    if len(killed) != 1:
        outcome.differences.append(f"{len(killed)} run folders, expected 1")
    compare(RunFolder(killed[0].parent), whole.run, epochs, outcome)
    return outcome


def report(outcome: Outcome, epochs: int) -> str:
    """What a person wants to know of it."""
    kinds = ", ".join(f"{count} × {kind}" for kind, count in sorted(outcome.kills.items()))
    stops = outcome.seconds_to_stop
    lines = [
        f"kills          {sum(outcome.kills.values())} ({kinds})",
        f"steps          {epochs * STEPS_PER_EPOCH}, of them {sum(outcome.repeated)} done again, "
        f"{max(outcome.repeated)} at most after one kill (a state is saved every {SAVE_STEPS} steps)",
        f"SIGTERM        {max(stops):.2f} s to save and end, at most" if stops else "SIGTERM        never sent",
        f"rows, events   {len(outcome.lost)} lost, {len(outcome.doubled)} doubled",
        *(f"  {line}" for line in (outcome.lost + outcome.doubled + outcome.differences)[:20]),
        f"verdict        {'equal to the last bit' if outcome.equal else 'NOT EQUAL'} to the whole run",
    ]
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    del argv
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        outcome = chaos(Path(folder), flags.FLAGS.kills, flags.FLAGS.epochs, flags.FLAGS.seed)
    print(report(outcome, flags.FLAGS.epochs))
    late = [seconds for seconds in outcome.seconds_to_stop if seconds > SECONDS_TO_STOP]
    return 0 if outcome.equal and not late else 1


if __name__ == "__main__":
    flags.DEFINE_integer("kills", 50, "how often the run is killed", lower_bound=1)
    flags.DEFINE_integer("epochs", 60, "epochs of the run, 5 steps each", lower_bound=5)
    flags.DEFINE_integer("seed", 0, "of the kills' kinds and moments")
    cli.launch(main)
