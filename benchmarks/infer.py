"""Seconds of a prediction: ours under every backend, its exported forms in their runtimes, and plain PyTorch, in turns.

    python -m benchmarks.infer --arch branched --batch_size 1 --size 256,512

A prediction takes a uint8 batch from the host and brings class logits and metres at the images' size back to it.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from absl import flags

from benchmarks import contest
from trainers import cli

FLAGS = flags.FLAGS
contest.define_flags(rounds=5, steps=5, least_batch=1)
flags.DEFINE_string("name", "infer", "name of the result")
flags.DEFINE_list("formats", ["saved_model", "onnx", "litert", "openvino"], "exports to measure, where installed")

# Builds an untrained model and exports it; a process of its own, for it takes TensorFlow.
EXPORT = """
import sys, zoo
from pathlib import Path
from mtl_keras import exporting
arch, encoder, height, width, out, *kinds = sys.argv[1:]
model = zoo.build(arch, encoder=encoder)
for kind in kinds:
    exporting.write(model, kind, Path(out) / exporting.FILES[kind], exporting.ExportOptions((int(height), int(width))))
    print(kind, Path(out) / exporting.FILES[kind], sep="\\t", flush=True)
"""
RUNTIMES = {"saved_model": "tensorflow", "onnx": "onnxruntime", "litert": "ai-edge-litert", "openvino": "openvino"}


def exports(folder: Path) -> list[contest.Contestant]:
    """Exports of the network, made now, whose runtimes are installed."""
    kinds = [kind for kind in FLAGS.formats if contest.installed(RUNTIMES[kind])]
    if FLAGS.precision != "float32" or not kinds:
        return []
    command = [sys.executable, "-c", EXPORT, FLAGS.arch, FLAGS.encoder, *FLAGS.size, str(folder), *kinds]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    made = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return [
        contest.Contestant(
            f"ours, {kind}", {**contest.common_settings(), "kind": "export", "format": kind, "path": path}
        )
        for kind, path in (line.split("\t") for line in made.stdout.splitlines() if "\t" in line)
    ]


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
