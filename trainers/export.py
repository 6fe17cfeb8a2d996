"""Exports a run's best model: `python -m trainers.export RUN --format saved_model,onnx,litert,openvino,keras`.

Every export is loaded again in a process that has only its runtime and compared with the model's own predictions; one
whose classes differ on more than 0.1 % of the pixels, or whose metres differ by more than 1e-3, is not kept. With
--precision float16 or int8 the drop in grader on the run's validation split is measured instead.

What is not exported is named; the exit status is then 1, and 2 where nothing was.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import flags
from PIL import Image

import zoo
from mtl_keras import exporting
from mtl_keras.data.views import EvalView
from mtl_keras.errors import UserError, first_line
from mtl_keras.evaluation import Evaluation
from mtl_keras.exporting import FILES, FORMATS, PRECISIONS, ExportOptions, check
from mtl_keras.inference import Prediction
from mtl_keras.model import MultiTaskModel
from trainers import cli, data_flags, prediction_flags
from trainers.run_folder import home_of, open_run, run_of, writable

FLAGS = flags.FLAGS
CHECKED_SIZE = (256, 512)
CALIBRATION_IMAGES = 32
# Their logits are kept in memory and on disk meanwhile: 40 MB for each of 512×1024.
MEASURED_AT_ONCE = 16

flags.DEFINE_list("format", ["saved_model"], f"what to write: one or more of {','.join(FORMATS)}")
flags.DEFINE_string("size", None, "HEIGHTxWIDTH of the images; free if not given")
flags.DEFINE_bool("argmax", False, "return class ids in the place of logits")
flags.DEFINE_enum("precision", "float32", PRECISIONS, "of weights and computation")
flags.DEFINE_bool("encoded", True, "give a SavedModel a second signature, serving_bytes, that takes JPEG and PNG files")
flags.DEFINE_integer("measure", 50, "validation images that the drop in grader is measured on", lower_bound=1)
data_flags.define(note="; for --precision alone")
flags.DEFINE_string("out", None, "folder to write to; the run's by default")


def main(arguments: list[str]) -> int | None:
    if len(arguments) != 1:
        raise UserError("give one run, such as `python -m trainers.export runs/NAME`")
    if unknown := [name for name in FLAGS.format or [""] if name not in FORMATS]:
        raise UserError(f"format: '{unknown[0]}' is unknown; use one or more of {', '.join(FORMATS)}")
    size = prediction_flags.size("size")
    out = writable(Path(FLAGS.out) if FLAGS.out else home_of(arguments[0]))
    failures = {}
    for kind in dict.fromkeys(FLAGS.format):
        target = out / _file_name(kind)
        # OpenVINO's weights lie beside its graph.
        targets = [target, target.with_suffix(".bin")] if kind == "openvino" else [target]
        if taken := [path for path in targets if path.exists()]:
            failures[kind] = f"{taken[0]}: exists already; give another --out, or remove it"
    kinds = [kind for kind in dict.fromkeys(FLAGS.format) if kind not in failures]
    if keras.backend.backend() != "tensorflow" and set(kinds) - {"keras"}:
        return _again_under_tensorflow()

    options = ExportOptions(size, FLAGS.argmax, FLAGS.precision, FLAGS.encoded)
    if kinds:
        model = zoo.load(arguments[0])
        for kind in kinds:
            try:
                print(f"{kind:<12}{export(model, kind, out, options, arguments[0])}", flush=True)
            except UserError as error:
                failures[kind] = f"{kind}: {error}"
    if failures:
        return cli.failed(list(failures.values()), "exported", any_done=len(failures) < len(set(FLAGS.format)))
    return None


def _file_name(kind: str) -> str:
    name = Path(FILES[kind])
    return str(name) if FLAGS.precision == "float32" else f"{name.stem}-{FLAGS.precision}{name.suffix}"


def _again_under_tensorflow() -> int:
    """Runs this command in a process whose backend makes graphs, whatever backend the model was trained with."""
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError("format: these are made by TensorFlow, which is not installed; run: pip install tensorflow")
    command = [sys.executable, "-m", "trainers.export", *sys.argv[1:]]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"}
    return subprocess.run(command, env=environment, check=False).returncode


def export(model: MultiTaskModel, kind: str, out: Path, options: ExportOptions, source: str) -> str:
    """Writes one export, checks it, moves it into place, and says how it compares.

    Raises:
        UserError: it cannot be made, or differs from the model.
    """
    name = _file_name(kind)
    target = out / name
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".export-") as scratch:
        written = Path(scratch) / name
        exporting.write(model, kind, written, options, samples(source, options))
        said = _compare(model, kind, written, options)
        if options.precision != "float32":
            said += f"; {measure_loss(model, kind, written, options, source)}"
        size = sum(file.stat().st_size for file in Path(scratch).rglob("*") if file.is_file())
        for file in Path(scratch).iterdir():
            shutil.move(file, out / file.name)
    return f"{target} ({size / 2**20:.0f} MiB): {said}"


def _compare(model: MultiTaskModel, kind: str, path: Path, options: ExportOptions) -> str:
    """How the export compares; raises `UserError` if it is to be the same and is not."""
    height, width = options.size or CHECKED_SIZE
    images = [check.sample_images(1, height, width)]
    # What is free is tried: a batch, and another size that is no multiple of anything.
    images.append(check.sample_images(2, *(options.size or (101, 147)), seed=1))
    agreement = check.compare(model, kind, path, images)
    said = (
        f"same classes on {agreement.same_ids:.3%} of the pixels, metres within {agreement.depth_error:.1e}, "
        f"{1000 * agreement.latency:.0f} ms for {height}x{width}"
    )
    if options.precision == "float32" and not agreement.within_tolerance:
        raise UserError(
            f"{said}; more than the {check.LEAST_SAME_IDS:.1%} and {check.MOST_DEPTH_ERROR:.0e} that are allowed, so "
            "it was not kept; this is a fault of the conversion"
        )
    return said


def samples(source: str, options: ExportOptions) -> list[Any]:
    """Training images of the run's dataset that int8 is scaled by, of the fixed size if there is one."""
    if options.precision != "int8":
        return []

    dataset = _dataset(source, "train")
    if dataset is None:
        return []
    chosen = np.linspace(0, len(dataset) - 1, min(CALIBRATION_IMAGES, len(dataset))).astype(int)
    images = [dataset[int(index)]["image"] for index in chosen]
    if options.size is None:
        return images
    height, width = options.size
    return [np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)) for image in images]


def measure_loss(model: MultiTaskModel, kind: str, path: Path, options: ExportOptions, source: str) -> str:
    """What the precision costs in grader, in words."""
    try:
        dataset, view = _dataset(source, "val"), EvalView()
    except UserError as error:
        return f"its drop in grader is not measured ({first_line(error)})"
    if dataset is None:
        return "its drop in grader is not measured, for no dataset is known"
    sizes = {view.output_size(*size) for size in dataset.sizes}
    if options.size and sizes != {options.size}:
        said = " and ".join(f"{height}x{width}" for height, width in sorted(sizes))
        return f"its drop in grader is not measured, for validation images are cut to {said}; give that as --size"
    full, reduced = Evaluation(model.spec), Evaluation(model.spec)
    count = min(FLAGS.measure, len(dataset))
    for start in range(0, count, MEASURED_AT_ONCE):
        views = [view(dataset[index]) for index in range(start, min(start + MEASURED_AT_ONCE, count))]
        outputs = check.run(kind, path, [item["image"][None] for item in views])
        for index, item in enumerate(views):
            labels = {"semseg": item["semseg"][None], "depth": dataset.metres(item)[None]}
            full.add(labels, [model.predict_images(item["image"])])
            semseg = outputs[f"semseg_{index}"][0]
            ids = semseg.argmax(axis=-1) if semseg.ndim == 3 else semseg
            reduced.add(labels, [Prediction(ids, outputs[f"depth_{index}"][0, ..., 0])])
    before, after = full.results(), reduced.results()
    changes = (f"{name} {before[name]:.2f} → {after[name]:.2f}" for name in ("grader", "miou", "silog"))
    return f"on {count} validation images {', '.join(changes)}"


def _dataset(source: str, split: str) -> Any:
    """A split of the run's dataset; None for a model file of no run, which knows of none."""
    run = run_of(source)
    return data_flags.load(open_run(run)[1], split) if run else None


if __name__ == "__main__":
    cli.launch(main, takes_arguments=True)
