"""Compares networks that do the same work, in one run and in turns, so that a noisy machine disturbs all alike.

Every subject lives in a process of its own and waits while another works. What was measured is kept as JSON in
`benchmarks/results/`, of which `python -m benchmarks.results` makes RESULTS.md.
"""

import contextlib
import dataclasses
import datetime
import functools
import importlib.metadata
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from mtl_keras.errors import UserError
from mtl_keras.files import write_json
from trainers import prediction_flags
from trainers.config import PRECISIONS

RESULTS = Path(__file__).parent / "results"
BACKENDS = ("jax", "tensorflow", "torch")
# Before each turn: threads of the one before keep a core busy for a while after their last work.
PAUSE_SECONDS = 1.0

FLAGS = flags.FLAGS
# Why contestants could not take part: a ratio to the best of the others must not hide that.
_left_out: list[str] = []
# They are the flags of the benchmark that asks for them, and stand in its --help.
flags.disclaim_key_flags()


def define_flags(*, rounds: int, steps: int, least_batch: int = 2) -> None:
    """The flags that the comparisons share; a batch of one image cannot be trained on."""
    flags.DEFINE_string("arch", "branched", "topology: joint, branched or distillation")
    flags.DEFINE_string("encoder", "resnet34", "encoder of all")
    flags.DEFINE_integer("batch_size", 4, "images a batch", lower_bound=least_batch)
    flags.DEFINE_string("size", "128x256", "HEIGHTxWIDTH of the images")
    flags.DEFINE_enum("precision", "float32", PRECISIONS, "compute precision of all")
    define_choices("backends", BACKENDS, "Keras backends to measure, where installed")
    flags.DEFINE_bool("compile_torch", False, "measure the torch backend with jit_compile=True, too")
    flags.DEFINE_integer("rounds", rounds, "turns of each", lower_bound=1)
    flags.DEFINE_integer("steps", steps, "steps of a turn", lower_bound=1)
    flags.DEFINE_string("out", str(RESULTS), "folder of the results")


def define_choices(name: str, choices: Sequence[str], help: str) -> None:
    """Defines a flag that takes one or more of some words, behind commas; all by default."""
    flags.DEFINE_list(name, [*choices], f"{help}: one or more of {','.join(choices)}")
    message = f"give one or more of {','.join(choices)}"
    flags.register_validator(name, lambda words: set(words) <= set(choices), message)


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A subject and how it is called: `settings` as `subject` takes them, `environment` beside the parent's."""

    name: str
    settings: dict[str, Any]
    environment: dict[str, str] = dataclasses.field(default_factory=dict)

    def with_environment(self, **variables: str) -> "Contestant":
        return dataclasses.replace(self, environment={**self.environment, **variables})

    def compiling(self) -> "Contestant":
        """The same, finding nothing that was compiled before."""
        return self.with_environment(JAX_ENABLE_COMPILATION_CACHE="false")


def common_settings() -> dict[str, Any]:
    """What the flags say of all subjects."""
    height, width = prediction_flags.size("size")
    if min(height, width) < 1:
        raise UserError(f"size: {height}x{width} is too small; give HEIGHTxWIDTH in pixels, such as 128x256")
    return {
        "arch": FLAGS.arch,
        "encoder": FLAGS.encoder,
        "batch_size": FLAGS.batch_size,
        "height": height,
        "width": width,
        "precision": FLAGS.precision,
    }


def ours(**settings: Any) -> list[Contestant]:
    """Ours under every installed backend of those asked for."""
    found = [name for name in FLAGS.backends if installed(name)]
    if not found:
        raise UserError(f"backends: none of those asked for is installed; give one or more of {','.join(BACKENDS)}")
    ways: dict[str, tuple[str, dict[str, bool]]] = {name: (name, {}) for name in found}
    if FLAGS.compile_torch and "torch" in found:
        ways["torch, compiled"] = "torch", {"jit": True}
    return [
        Contestant(
            f"ours, {way}",
            {**common_settings(), "kind": "keras", "keep_freed_memory": True, **own, **settings},
            # Subjects share a device; XLA would take most of its memory at once.
            {"KERAS_BACKEND": name, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
        )
        for way, (name, own) in ways.items()
    ]


def peers(*, compiled: bool = True) -> list[Contestant]:
    """The plain PyTorch network as it comes and in its fastest settings, if torch is installed."""
    if not installed("torch"):
        return []
    ways: dict[str, dict[str, bool]] = {"eager": {}}
    # The allocator's settings that our commands have help PyTorch too.
    ways["eager, freed memory kept"] = {"keep_freed_memory": True}
    ways["channels_last, freed memory kept"] = {"channels_last": True, "keep_freed_memory": True}
    if compiled:
        way = "channels_last, compiled, freed memory kept"
        ways[way] = {"channels_last": True, "compile": True, "keep_freed_memory": True}
    return [
        Contestant(f"PyTorch, {name}", {**common_settings(), "kind": "torch", **settings})
        for name, settings in ways.items()
    ]


def installed(package: str) -> bool:
    """Whether a package is there, without importing it."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


class Worker:
    """A subject's process, which builds what it measures until it is asked for the first time."""

    def __init__(self, contestant: Contestant, log):
        self.name, self._log = contestant.name, log
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.subject", json.dumps(contestant.settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **contestant.environment},
            text=True,
            bufsize=1,
        )

    @functools.cached_property
    def facts(self) -> dict[str, Any]:
        """What it says of itself, once it is built."""
        return self._reply()

    def ask(self, **message: Any) -> dict[str, Any]:
        """Sends a message and waits for its answer."""
        assert self._process.stdin is not None  # noqa: S101
        try:
            print(json.dumps(message), file=self._process.stdin)
        except BrokenPipeError:
            self._died()
        return self._reply()

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101
        line = self._process.stdout.readline()
        if not line:
            self._died()
        return json.loads(line)

    def _died(self) -> None:
        self._process.wait()
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip().splitlines()[-1:]
        raise UserError(f"{self.name}: ended with status {self._process.returncode} ({' '.join(said)}); leave it out")

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def workers(contestants: Sequence[Contestant]) -> Iterator[dict[str, Worker]]:
    """Starts every contestant; one that cannot start is named and left out."""
    with contextlib.ExitStack() as stack:
        started: dict[str, Worker] = {}
        for contestant in contestants:
            worker = Worker(contestant, stack.enter_context(tempfile.TemporaryFile()))
            stack.callback(worker.close)
            started[contestant.name] = worker
        # All build at the same time; none is measured before the last is done.
        for name, worker in list(started.items()):
            try:
                worker.facts  # noqa: B018
            except UserError as error:
                leave_out(error)
                del started[name]
        yield started


def leave_out(why: object) -> None:
    """Says, and keeps with the result, why somebody does not take part."""
    print(f"left out: {why}", flush=True)
    _left_out.append(str(why))


def take_turns(
    started: dict[str, Worker], do: str, *, rounds: int, steps: int, warm_up: int = 2
) -> dict[str, list[float]]:
    """Seconds a step of every turn; one whose first steps fail is named and left out."""
    seconds: dict[str, list[float]] = {}
    for name, worker in list(started.items()):
        try:
            worker.ask(do=do, steps=warm_up)
        except UserError as error:
            leave_out(error)
            del started[name]
    for _ in range(rounds):
        for name, worker in started.items():
            time.sleep(PAUSE_SECONDS)
            seconds.setdefault(name, []).append(worker.ask(do=do, steps=steps)["seconds"] / steps)
    return seconds


def summarise(seconds: dict[str, list[float]]) -> list[dict[str, Any]]:
    """A row for each: median, lowest, highest, and the best peer's median over its own.

    Raises:
        UserError: nothing was measured.
    """
    check_measured(seconds)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    best = min((value for name, value in medians.items() if not name.startswith("ours")), default=None)
    return [
        {
            "name": name,
            "median": medians[name],
            "lowest": min(values),
            "highest": max(values),
            "ratio": None if best is None else best / medians[name],
        }
        for name, values in seconds.items()
    ]


def check_measured(found: Collection[Any]) -> None:
    """Raises `UserError` if nothing could be measured; why has been printed."""
    if not found:
        raise UserError("nothing could be measured; the lines above say why")


def print_rows(rows: list[dict[str, Any]]) -> None:
    """A table of the summary; times in milliseconds."""
    width = max(len(row["name"]) for row in rows)
    print(f"\n{'':<{width}}{'ms':>10}{'lowest':>10}{'highest':>10}{'ratio':>8}   (ratio: best PyTorch / this)")
    for row in rows:
        times = "".join(f"{1000 * row[key]:>10.1f}" for key in ("median", "lowest", "highest"))
        ratio = "" if row["ratio"] is None else f"{row['ratio']:>8.2f}"
        print(f"{row['name']:<{width}}{times}{ratio}")


def machine() -> dict[str, Any]:
    """Where and when a result was measured, and with which versions."""
    versions = {name: importlib.metadata.version(name) for name in ("keras", *BACKENDS) if installed(name)}
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def keep(name: str, facts: dict[str, Any], arguments: Sequence[str] = ()) -> None:
    """Writes a result, with the command that gave it and what this passed on behind `--`, to `NAME.json`."""
    given = [FLAGS[flag].serialize() for flag in FLAGS if FLAGS[flag].present and flag != "out"]
    given += ["--", *arguments] if arguments else []
    command = shlex.join(["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *given])
    path = Path(FLAGS.out) / f"{name}.json"
    missing = {"left_out": _left_out} if _left_out else {}
    write_json(path, {"command": command, "machine": machine(), **facts, **missing})
    print(f"\n{path}")
