"""Measures a run's best checkpoint: `python -m trainers.evaluate RUN --split val`.

The final predictions of the best checkpoint are measured, on whole images, their sides cut to multiples of 32. JSON,
Markdown and figures land in the run's `evaluations/`, or in --out. With --submission the predictions are written too,
as an archive.
"""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

from absl import flags
from rich.progress import track

import zoo
from mtl_keras import backend, data
from mtl_keras.errors import UserError
from mtl_keras.evaluation import Evaluation
from mtl_keras.files import new_folder
from mtl_keras.inference import predict_batch
from trainers import cli, data_flags, evaluation_report, portable, prediction_flags, submission
from trainers.config import RunConfig
from trainers.run_folder import folder_for, open_run, run_of, writable

FLAGS = flags.FLAGS
ARCHIVE = "submission.zip"

flags.DEFINE_enum("split", "val", ["train", "val", "test"], "what to measure on")
flags.DEFINE_string("out", None, "where to write; a new folder in the run's evaluations/ by default")
flags.DEFINE_bool("submission", False, "also write the predictions as an archive")
data_flags.define(dataset="another dataset than the run's; needed for a model file")
prediction_flags.define(batch_size=4)


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise UserError("give one run, such as `python -m trainers.evaluate runs/NAME`")
    options = prediction_flags.options()

    console = cli.console()
    out = folder_for(arguments[0], FLAGS.out, f"evaluations/{FLAGS.split}")
    if out.exists():
        raise UserError(f"out: {out} exists already; give another folder, or leave --out away")
    writable(out)
    model = zoo.load(arguments[0])
    loader = open_split(arguments[0], model.spec)
    evaluation, options = Evaluation(model.spec), dataclasses.replace(options, confidence=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(loader)
        made = stack.enter_context(new_folder(out))
        archive = stack.enter_context(submission.writing(made / ARCHIVE, model.spec)) if FLAGS.submission else None
        steps = range(len(loader))
        for step in track(steps, FLAGS.split, console=console, transient=True, disable=not console.is_terminal):
            images, labels = loader[step]
            predictions = predict_batch(model, images, options)
            evaluation.add(labels, predictions)
            if archive:
                archive.add(loader.ids(step), predictions)
        results = evaluation_report.write(made, evaluation, _facts(arguments[0], model, loader.dataset, options))
        if archive:
            archive.add_texts({"metrics.json": (made / "metrics.json").read_text(encoding="utf-8")})
            if run := run_of(arguments[0]):
                opened, config = open_run(run)
                archive.add_texts(portable.texts(opened, data_flags.chosen(config)))
    console.print(f"{'grader':>9}{'mIoU %':>9}{'SI-logRMSE':>12}", style="bold")
    console.print(f"{results['grader']:9.2f}{results['miou']:9.2f}{results['silog']:12.2f}\n")
    console.print(f"report      {out / 'README.md'}")
    if FLAGS.submission:
        console.print(f"archive     {out / ARCHIVE}")


def open_split(source: str, spec: Any) -> Any:
    """A loader of whole images, of the split that the flags name."""
    if run := run_of(source):
        config = open_run(run)[1]
    elif FLAGS.dataset:
        config = RunConfig()
    else:
        raise UserError(f"{source}: lies in no run, whose config.json would name a dataset; add --dataset=NAME")
    dataset = data_flags.load(config, FLAGS.split)
    if dataset.spec.classes != spec.classes:
        raise UserError(
            f"{dataset.full_name}: has {dataset.spec.num_classes} classes, other ones than the model's "
            f"{spec.num_classes}; give the dataset that it was trained on"
        )
    batch_size = min(FLAGS.batch_size, len(dataset))
    return data.Loader(dataset, batch_size, data.EvalView(), shuffle=False, drop_remainder=False, cache="none")


def _facts(source: str, model: Any, dataset: Any, options: Any) -> dict[str, Any]:
    """What was evaluated and how, for the report."""
    views = [*(f"{scale:g}" for scale in options.scales if options.scales != (1.0,)), *["flip"] * options.flip]
    return {
        "model": Path(source).resolve().name,
        "checkpoint": "best",
        "arch": model.architecture.get("arch", model.name),
        "encoder": model.architecture.get("encoder", "unknown"),
        "dataset": dataset.full_name,
        "split": dataset.split,
        "images": len(dataset),
        "predictions": "final, depth clamped to {:g}–{:g} m".format(*model.spec.depth_range),
        "test_time_augmentation": ", ".join(views) or "none",
        "window": "x".join(map(str, options.window)) if options.window else "none",
        "backend": backend.describe(),
    }


if __name__ == "__main__":
    cli.launch(main, takes_arguments=True)
