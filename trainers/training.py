"""A run from its first step, or where it stopped, to its model, its card and its export."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from rich.console import Console

import zoo
from mtl_keras import backend, callbacks, saving, viz
from mtl_keras.checkpoints import (
    SavedState,
    StateFiles,
    assign_weights,
    read_tensors,
    restore_training_state,
    weights_of,
)
from mtl_keras.cost import count_parameters
from mtl_keras.errors import UserError
from mtl_keras.event_writer import EventWriter
from mtl_keras.files import replacing
from mtl_keras.model import MultiTaskModel
from mtl_keras.progress import ProgressBar
from trainers import card
from trainers.assemble import Splits, compile_model, make_model, make_splits
from trainers.config import RunConfig
from trainers.run_folder import RunFolder, create, locked

PICTURES = 4
# The status of a run that a signal stopped and that can go on: sysexits' EX_TEMPFAIL, "try again later".
EXIT_STOPPED = 75

console = Console(highlight=False, soft_wrap=True)


def start(config: RunConfig, given: dict[str, Any]) -> None:
    """Starts a new run; flags that were given stand over the configuration's fields."""
    config = dataclasses.replace(config, **given)
    splits = make_splits(config)
    model = make_model(config, splits.train.dataset.spec)
    run = create(config)
    with locked(run):
        train(config, run, model, splits, state=None)


def resume(run: RunFolder, config: RunConfig) -> None:
    """Goes on with a run from its last saved state."""
    with locked(run):
        states = StateFiles(run.checkpoints)
        state = states.load()
        for damaged in states.damaged:
            console.print(f"{damaged} is damaged; the state before it is used")
        splits = make_splits(config)
        model = make_model(config, splits.train.dataset.spec)
        train(config, run, model, splits, state)


def train(config: RunConfig, run: RunFolder, model: MultiTaskModel, splits: Splits, state: SavedState | None) -> None:
    """Trains from a state, or from the start, and finishes the run."""
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
    clock = callbacks.Clock(step, facts.get("seconds", 0.0), facts.get("learning_rate", 0.0))
    # An epoch whose validation a stop cut off is recorded again.
    recorded = max(step - 1, 0) // steps_per_epoch
    with EventWriter(run.tensorboard, purge_step=recorded + 1 if step else None) as writer:
        best = saving.BestWeights(run.best, facts.get("best"))
        files = StateFiles(run.checkpoints)
        every = {"minutes": config.save_every, "steps": config.save_steps}
        last = saving.LastState(files, clock, best, steps_per_epoch, **every)
        stop = saving.StopOnSignal(last)
        # The best weights come after the pictures and the table: once they are kept, the epoch is.
        beside = [clock, *_records(config, run, splits, clock, writer, recorded), best, last, stop]
        try:
            _fit(config, model, splits, step, beside)
            last.wait()
        except saving.Stopped:
            console.print(f"stopped after step {clock.step}; go on with --resume {run.path}")
            sys.exit(EXIT_STOPPED)
        finally:
            stop.restore()
            splits.train.close()
    finish(config, run, model, splits)


def _records(config: RunConfig, run: RunFolder, splits: Splits, clock, writer, recorded: int) -> list:
    steps_per_epoch = splits.train.steps_per_epoch
    images, labels = splits.val[0]
    shown = slice(0, PICTURES)
    return [
        ProgressBar(config.epochs, steps_per_epoch, clock.step, console),
        callbacks.MetricsTable(run.metrics, clock, recorded),
        callbacks.TensorBoard(writer, clock, _waiting(clock, splits)),
        callbacks.Pictures(images[shown], {k: v[shown] for k, v in labels.items()}, run.pictures, writer),
    ]


def _waiting(clock: callbacks.Clock, splits: Splits) -> Callable[[], dict[str, float]]:
    started = clock.seconds
    return lambda: {"wait_for_data_percent": 100 * splits.train.wait_seconds / max(clock.seconds - started, 1e-9)}


def _fit(config: RunConfig, model: MultiTaskModel, splits: Splits, step: int, beside: list) -> None:
    """Fits from a step on: what is left of its epoch, then all whole epochs."""
    steps_per_epoch = splits.train.steps_per_epoch
    epoch, done = divmod(step, steps_per_epoch)

    def fit(initial_epoch: int, epochs: int, steps: int, first: Sequence[keras.callbacks.Callback] = ()) -> None:
        splits.train.go_to(initial_epoch * steps_per_epoch + steps_per_epoch - steps)
        model.fit(
            splits.train,
            shuffle=False,
            steps_per_epoch=steps,
            initial_epoch=initial_epoch,
            epochs=epochs,
            validation_data=splits.val,
            callbacks=callbacks.CallbackList([*first, *beside], add_history=True, model=model),
            verbose=0,
        )

    if done:
        under_way = {v.path: keras.ops.convert_to_numpy(v) for v in model.metrics_variables}
        fit(epoch, epoch + 1, steps_per_epoch - done, [_RestoreMetrics(under_way)])
        epoch += 1
    elif step:
        _finish_epoch(model, splits, epoch - 1, callbacks.CallbackList(beside, model=model))
    if epoch < config.epochs:
        fit(epoch, config.epochs, steps_per_epoch)


def _finish_epoch(model: MultiTaskModel, splits: Splits, epoch: int, beside: keras.callbacks.CallbackList) -> None:
    """Validates and records an epoch whose last step is saved: what `fit` does at an epoch's end."""
    logs = callbacks.numbers(model.get_metrics_result())
    validation = model.evaluate(splits.val, callbacks=beside, verbose=0, return_dict=True)
    beside.on_epoch_end(epoch, {**logs, **{f"val_{name}": value for name, value in validation.items()}})


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
