"""What a trained run ends with: its model, its card, its table and its export."""

import importlib.util
import os
import subprocess
import sys

from rich.console import Console

import zoo
from mtl_keras import callbacks, viz
from mtl_keras.checkpoints import read_tensors
from mtl_keras.errors import UserError
from mtl_keras.files import replacing
from trainers import card, dashboards, quiet
from trainers.config import RunConfig
from trainers.run_folder import RunFolder


def finish(config: RunConfig, run: RunFolder, baseline: dict[str, float] | None, console: Console) -> None:
    """Turns the best checkpoint into `model.keras`, and writes the run's figures, card and export.

    Args:
        config: what the run is.
        run: its folder.
        baseline: validation metrics of the untrained network, if they were taken.
        console: where the table goes.
    """
    facts = read_tensors(run.best)[1]
    best = zoo.load(run.best)
    with replacing(run.model) as temporary, quiet.without_tensorflow():
        best.save(temporary)
    history = callbacks.read_metrics(run.metrics)
    viz.plot_history({name: [row[name] for row in history] for name in history[0]}, run.pictures / "curves.png")
    card.write(run, config, best, history, facts, baseline)
    dashboards.end(run, config, facts)
    rows = {"untrained": baseline} if baseline else {}
    _print_graders(console, {**rows, f"best, epoch {facts['epoch']}": facts["metrics"]})
    console.print(f"picture     {run.pictures}/epoch_{facts['epoch']:03d}.png")
    console.print(f"curves      tensorboard --logdir {run.path.parent}")
    console.print(f"model       {run.model}")
    if config.export and not run.saved_model.exists():
        _export(run, console)


def _print_graders(console: Console, rows: dict[str, dict[str, float]]) -> None:
    console.print(f"\n{'':<22}{'grader':>9}{'mIoU %':>9}{'SI-logRMSE':>12}", style="bold")
    for name, values in rows.items():
        console.print(f"{name:<22}{values['grader']:9.2f}{values['miou']:9.2f}{values['silog']:12.2f}")
    console.print()


def _export(run: RunFolder, console: Console) -> None:
    """Makes the SavedModel in a process of its own, where TensorFlow is Keras' backend."""
    if importlib.util.find_spec("tensorflow") is None:
        mend = f"pip install tensorflow, then python -m trainers.export {run.path}"
        console.print(f"no SavedModel, which TensorFlow makes and is not installed: {mend}", soft_wrap=True)
        return
    console.print("exporting the SavedModel …")
    command = [sys.executable, "-m", "trainers.export", str(run.path), "--format=saved_model"]
    # This process holds the GPU's memory, and a graph is made as well without one.
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(command, env=environment, check=False)
    if done.returncode:
        raise UserError(f"{run.path}: trained, but not exported; run `python {' '.join(command[1:])}` to see why")
