"""A run from its first step, or where it stopped, to its model, its card and its export."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from rich.console import Console

import zoo
from mtl_keras import backend, callbacks, viz
from mtl_keras.checkpoints import (
    StateFiles,
    assign_weights,
    read_tensors,
    restore_training_state,
    weights_of,
)
from mtl_keras.errors import UserError
from mtl_keras.event_writer import EventWriter
from mtl_keras.files import replacing
from mtl_keras.model import MultiTaskModel
from mtl_keras.progress import ProgressBar
from trainers import card
from trainers.assemble import Splits, compile_model, make_model, make_splits
from trainers.config import RunConfig
from trainers.run_folder import RunFolder, create, open_run

PICTURES = 4
SAVED_MODEL_TOLERANCE = 1e-4

console = Console(highlight=False, soft_wrap=True)


def start(config: RunConfig, given: dict[str, Any]) -> RunFolder:
    """Starts a new run; flags that were given stand over the configuration's fields."""
    config = dataclasses.replace(config, **given)
    splits = make_splits(config)
    model = make_model(config, splits.train.dataset.spec)
    run = create(config)
    train(config, run, model, splits, state=None)
    return run


def resume(path: str, given: dict[str, Any]) -> RunFolder:
    """Goes on with a run from its last saved state."""
    run, config = open_run(path)
    if given:
        name = next(iter(given))
        raise UserError(f"{name}: a resumed run keeps its own settings; leave --{name} out, or start a new run")
    states = StateFiles(run.checkpoints)
    found = states.load()
    for damaged in states.damaged:
        console.print(f"{damaged} is damaged; the state before it is used")
    splits = make_splits(config, start_step=found[0] if found else 0)
    model = make_model(config, splits.train.dataset.spec)
    train(config, run, model, splits, state=found)
    return run


def train(config: RunConfig, run: RunFolder, model: MultiTaskModel, splits: Splits, state) -> None:
    """Trains from a state (step, arrays, facts) or from the start, and finishes the run."""
    steps_per_epoch = splits.train.steps_per_epoch
    compile_model(config, model, steps_per_epoch)
    model.optimizer.build(model.trainable_variables)
    step, arrays, facts = state or (0, None, {})
    if arrays is not None:
        restore_training_state(model, arrays)
    console.print(
        f"{backend.describe()} · {config.precision} · {config.arch}/{config.encoder}, "
        f"{count_parameters(model) / 1e6:.1f} M parameters · {run.path}" + (f" · from step {step}" if step else "")
    )
    clock = callbacks.Clock(step, facts.get("seconds", 0.0))
    with EventWriter(run.tensorboard) as writer:
        beside = _callbacks(config, run, model, splits, clock, facts, writer)
        _fit(config, model, splits, step, beside)
    splits.train.close()
    finish(config, run, model, splits)


def _callbacks(config: RunConfig, run: RunFolder, model, splits: Splits, clock, facts, writer: EventWriter) -> list:
    steps_per_epoch = splits.train.steps_per_epoch
    images, labels = splits.val[0]
    shown = slice(0, PICTURES)
    best = callbacks.BestWeights(run.best, facts.get("best"))
    return [
        clock,
        ProgressBar(config.epochs, steps_per_epoch, clock.step, console),
        callbacks.MetricsTable(run.metrics, clock, clock.step // steps_per_epoch),
        callbacks.TensorBoard(writer, clock, _waiting(clock, splits)),
        callbacks.Pictures(images[shown], {k: v[shown] for k, v in labels.items()}, run.pictures, writer),
        best,
        callbacks.LastState(StateFiles(run.checkpoints), clock, best, steps_per_epoch, config.save_every),
    ]


def _waiting(clock: callbacks.Clock, splits: Splits) -> Callable[[], dict[str, float]]:
    started = clock.seconds
    return lambda: {"wait_for_data_percent": 100 * splits.train.wait_seconds / max(clock.seconds - started, 1e-9)}


def _fit(config: RunConfig, model: MultiTaskModel, splits: Splits, step: int, beside: list) -> None:
    """Fits the rest of the epoch that `step` lies in, if it does, and then all whole epochs."""
    steps_per_epoch = splits.train.steps_per_epoch
    epoch, done = divmod(step, steps_per_epoch)
    parts = [(epoch, epoch + 1, steps_per_epoch - done)] if done else []
    parts.append((epoch + bool(done), config.epochs, steps_per_epoch))
    restored = {v.path: keras.ops.convert_to_numpy(v) for v in model.metrics_variables} if done else {}
    for initial_epoch, epochs, steps in parts:
        under_way = [_RestoreMetrics(restored)] if steps < steps_per_epoch else []
        model.fit(
            splits.train,
            initial_epoch=initial_epoch,
            epochs=epochs,
            validation_data=splits.val,
            callbacks=callbacks.CallbackList(under_way + beside, add_history=True, model=model),
            verbose=0,
        )


class _RestoreMetrics(keras.callbacks.Callback):
    """Puts the metrics under way back, which Keras resets at an epoch's begin."""

    def __init__(self, values: dict[str, np.ndarray]):
        super().__init__()
        self.values = values

    def on_epoch_begin(self, epoch, logs=None):
        for variable in self.model.metrics_variables:
            variable.assign(self.values[variable.path])


def finish(config: RunConfig, run: RunFolder, model: MultiTaskModel, splits: Splits) -> None:
    """Turns the best checkpoint into `model.keras`, and writes the run's figures, card and export."""
    weights, facts = read_tensors(run.best)
    baseline = None
    if config.baseline:
        baseline = evaluate_untrained(config, model, splits)
    assign_weights(model, weights)
    best = zoo.load(run.best)
    with replacing(run.model) as temporary:
        best.save(temporary)
    splits.val.close()
    history = callbacks.read_metrics(run.metrics)
    viz.plot_history(_columns(history), run.pictures / "curves.png")
    card.write(run, config, best, history, facts, baseline)
    _print_grader(facts["epoch"], facts["metrics"], baseline)
    console.print(f"picture     {run.pictures}/epoch_{facts['epoch']:03d}.png")
    console.print(f"curves      tensorboard --logdir {config.runs_dir}")
    console.print(f"model       {run.model}")
    if config.export:
        _export(run)


def evaluate_untrained(config: RunConfig, model: MultiTaskModel, splits: Splits) -> dict[str, float]:
    """Validation metrics of the weights that the run began with."""
    assign_weights(model, weights_of(make_model(config, model.spec)))
    return callbacks.numbers(model.evaluate(splits.val, verbose=0, return_dict=True))


def count_parameters(model: keras.Model) -> int:
    """The number of trainable parameters."""
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def _columns(history: list[dict[str, float]]) -> dict[str, list[float]]:
    return {name: [row[name] for row in history] for name in history[0]}


def _print_grader(epoch: int, metrics: dict[str, float], baseline: dict[str, float] | None) -> None:
    console.print(f"\n{'':<22}{'grader':>9}{'mIoU %':>9}{'SI-logRMSE':>12}", style="bold")
    rows = [("untrained", baseline)] if baseline else []
    for name, values in [*rows, (f"best, epoch {epoch}", metrics)]:
        console.print(f"{name:<22}{values['grader']:9.2f}{values['miou']:9.2f}{values['silog']:12.2f}")
    console.print()


def _export(run: RunFolder) -> None:
    """Makes the SavedModel in a process of its own, where TensorFlow is Keras' backend."""
    command = [sys.executable, "-m", "trainers.export", str(run.path), "--format=saved_model"]
    done = subprocess.run(command, env={**os.environ, "KERAS_BACKEND": "tensorflow"}, check=False)
    if done.returncode:
        raise UserError(f"{run.path}: trained, but not exported; run `{' '.join(command[1:])}` to see why")
