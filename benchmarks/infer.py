"""Seconds of a prediction: ours under every backend, its exported forms in their runtimes, and plain PyTorch, in turns.

    python -m benchmarks.infer --arch branched --batch_size 1 --size 256x512

A prediction takes a uint8 batch from the host and brings class logits and metres at the images' size back to it. The
exported forms run with the allocator's settings of our commands, as ours and PyTorch's fastest do.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from absl import flags

from benchmarks import contest
from mtl_keras.errors import UserError
from trainers import cli

FLAGS = flags.FLAGS
contest.define_flags(rounds=5, steps=5, least_batch=1)
flags.DEFINE_string("name", "infer", "name of the result")
RUNTIMES = {"saved_model": "tensorflow", "onnx": "onnxruntime", "litert": "ai-edge-litert", "openvino": "openvino"}
contest.define_choices("formats", list(RUNTIMES), "exports to measure, where their runtimes are installed")

# Builds an untrained model and exports it; a process of its own, for it takes TensorFlow.
EXPORT = """
import sys, zoo
from pathlib import Path
from mtl_keras import exporting
kind, arch, encoder, height, width, out = sys.argv[1:]
path = Path(out) / exporting.FILES[kind]
exporting.write(zoo.build(arch, encoder=encoder), kind, path, exporting.ExportOptions((int(height), int(width))))
print(path)
"""


def exports(folder: Path) -> list[contest.Contestant]:
    """Exports of the network, made now; one that cannot be is named and left out."""
    found = []
    for kind in FLAGS.formats:
        try:
            settings = {"kind": "export", "format": kind, "path": export(kind, folder), "keep_freed_memory": True}
        except UserError as error:
            contest.leave_out(f"ours, {kind}: {error}")
            continue
        found.append(contest.Contestant(f"ours, {kind}", {**contest.common_settings(), **settings}))
    return found


def export(kind: str, folder: Path) -> str:
    """Exports the network, and returns where it lies; raises `UserError` if it cannot be made or run."""
    if FLAGS.precision != "float32":
        raise UserError("exports are measured in float32 alone")
    if not contest.installed(RUNTIMES[kind]):
        raise UserError(f"{RUNTIMES[kind]} is not installed")
    settings = [str(contest.common_settings()[name]) for name in ("arch", "encoder", "height", "width")]
    command = [sys.executable, "-c", EXPORT, kind, *settings, str(folder)]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    made = subprocess.run(command, env=environment, capture_output=True, text=True)
    if made.returncode:
        said = made.stderr.strip().splitlines()[-1:]
        raise UserError(f"the export ended with status {made.returncode} ({' '.join(said)})")
    return made.stdout.splitlines()[-1]


def main(arguments: list[str]) -> None:
    del arguments
    with tempfile.TemporaryDirectory() as folder:
        contestants = [*contest.ours(), *exports(Path(folder)), *contest.peers()]
        with contest.workers(contestants) as started:
            seconds = contest.take_turns(started, "infer", rounds=FLAGS.rounds, steps=FLAGS.steps)
            facts = {name: worker.facts for name, worker in started.items()}
    rows = contest.summarise(seconds)
    contest.print_rows(rows)
    contest.keep(FLAGS.name, {"settings": contest.common_settings(), "facts": facts, "rows": rows})


if __name__ == "__main__":
    cli.launch(main)
