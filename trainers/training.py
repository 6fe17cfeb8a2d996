"""A run from its first step, or where it stopped, to its model, its card and its export."""

import contextlib
import dataclasses
import functools
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from rich.console import Console

import zoo
from mtl_keras import backend, callbacks, faults, saving, viz
from mtl_keras.averaging import AveragedWeights
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
from mtl_keras.profiling import Trace
from mtl_keras.progress import ProgressBar
from trainers import card, dashboards, quiet, recovery
from trainers.assemble import Splits, compile_model, make_model, make_splits
from trainers.config import RunConfig
from trainers.devices import StopTogether
from trainers.run_folder import RunFolder, create, locked

PICTURES = 4
# The status of a run that a signal stopped and that can go on: sysexits' EX_TEMPFAIL, "try again later".
EXIT_STOPPED = 75

console = Console(highlight=False, soft_wrap=True)


def start(config: RunConfig, given: dict[str, Any], parallel: backend.Parallel) -> None:
    """Starts a new run; flags that were given stand over the configuration's fields."""
    config = dataclasses.replace(config, **given)
    splits = make_splits(config, parallel)
    with parallel.scope():
        model = make_model(config, splits.train.dataset.spec)
    if backend.process_index():
        follow(config, model, splits, parallel, state=None)
        return
    run = create(config)
    with locked(run):
        train(config, run, model, splits, parallel, state=None)


def resume(run: RunFolder, config: RunConfig, parallel: backend.Parallel) -> None:
    """Goes on with a run from its last saved state."""
    follows = backend.process_index() > 0
    with contextlib.nullcontext() if follows else locked(run):
        states = StateFiles(run.checkpoints)
        state = states.load()
        for damaged in states.damaged:
            console.print(f"{damaged} is damaged; the state before it is used")
        splits = make_splits(config, parallel)
        with parallel.scope():
            model = make_model(config, splits.train.dataset.spec)
        if follows:
            follow(config, model, splits, parallel, state)
        else:
            train(config, run, model, splits, parallel, state)


def train(
    config: RunConfig,
    run: RunFolder,
    model: MultiTaskModel,
    splits: Splits,
    parallel: backend.Parallel,
    state: SavedState | None,
) -> None:
    """Trains from a state, or from the start, and finishes the run."""
    with parallel.scope():
        rollbacks_left = recovery.MOST_ROLLBACKS
        while behind := _train(config, run, model, splits, parallel, state, rollbacks_left):
            state, rollbacks_left = behind, rollbacks_left - 1
        baseline = evaluate_untrained(config, model, splits) if config.baseline else None
    backend.disconnect()
    finish(config, run, splits, baseline)


def follow(
    config: RunConfig, model: MultiTaskModel, splits: Splits, parallel: backend.Parallel, state: SavedState | None
) -> None:
    """Takes part in what the main process trains, from its share of each batch, and writes nothing."""
    with parallel.scope():
        clock = _begin(config, model, splits, parallel, state)
        try:
            _fit(config, model, splits, clock.step, [clock, *_averaged(config), StopTogether(clock, None)])
        except saving.Stopped:
            sys.exit(EXIT_STOPPED)
        finally:
            splits.train.close()
        if config.baseline:
            evaluate_untrained(config, model, splits)
    splits.val.close()
    backend.disconnect()


def _begin(
    config: RunConfig, model: MultiTaskModel, splits: Splits, parallel: backend.Parallel, state: SavedState | None
) -> callbacks.Clock:
    """Makes a model ready for the step after its state, or the first one."""
    compile_model(config, model, splits.train.steps_per_epoch)
    parallel.prepare(model)
    model.optimizer.build(model.trainable_variables)
    step, arrays, facts = state or (0, None, {})
    if arrays is not None:
        restore_training_state(model, arrays)
    return callbacks.Clock(step, facts.get("seconds", 0.0), facts.get("learning_rate", 0.0))


def _train(
    config: RunConfig,
    run: RunFolder,
    model: MultiTaskModel,
    splits: Splits,
    parallel: backend.Parallel,
    state: SavedState | None,
    rollbacks_left: int,
) -> SavedState | None:
    """Trains, with everything that a run keeps of it; gives the state to go on from where it rolled back."""
    steps_per_epoch = splits.train.steps_per_epoch
    clock = _begin(config, model, splits, parallel, state)
    step, facts = clock.step, state[2] if state else {}
    console.print(
        f"{backend.describe()} · {config.precision} · {config.arch}/{config.encoder}, "
        f"{count_parameters(model) / 1e6:.1f} M parameters · {run.path}" + (f" · from step {step}" if step else "")
    )
    if warning := backend.idle_gpu_warning():
        print(warning, file=sys.stderr)
    # An epoch whose validation a stop cut off is recorded again.
    recorded = max(step - 1, 0) // steps_per_epoch
    # One that was killed before its first state begins again, over what it told TensorBoard.
    purge_step = recorded + 1 if step else 0 if run.tensorboard.is_dir() else None
    with EventWriter(run.tensorboard, purge_step=purge_step) as writer:
        if not step:
            dashboards.begin(writer, config, model)
        best = saving.BestWeights(run.best, facts.get("best"))
        files = StateFiles(run.checkpoints)
        last = saving.LastState(files, clock, best, steps_per_epoch, minutes=config.save_every, steps=config.save_steps)
        stop = StopTogether(clock, last) if backend.process_count() > 1 else saving.StopOnSignal(last)
        watch = faults.LossWatch(clock)
        progress = _progress(config, splits, step, watch)
        # The best weights come after the pictures and the table: once they are kept, the epoch is.
        records = _records(config, run, model, splits, clock, writer, recorded)
        beside = [clock, watch, progress, *records, best, *_options(config, run), last, stop]
        fault = None
        try:
            _fit(config, model, splits, step, beside)
            last.wait()
        except faults.NotFinite as error:
            fault = error
        except saving.Stopped:
            console.print(f"stopped after step {clock.step}; go on with --resume {run.path}")
            sys.exit(EXIT_STOPPED)
        finally:
            progress.close()
            stop.restore()
            splits.train.close()
    if fault is None:
        return None
    if backend.process_count() > 1:
        raise UserError(f"the loss is not finite by step {fault.step}; --resume {run.path} in one process says why")
    begin = functools.partial(_begin, config, model, splits, parallel)
    fit = functools.partial(_fit, config, model, splits)
    session = recovery.Session(config, run, model, splits, last, begin, fit, console.print)
    return recovery.recover(session, fault, rollbacks_left)


def _progress(config: RunConfig, splits: Splits, step: int, watch: faults.LossWatch) -> ProgressBar:
    return ProgressBar(
        config.epochs,
        splits.train.steps_per_epoch,
        step,
        console,
        waited=lambda: splits.train.wait_seconds,
        # The logs of a step that is skipped are not finite; the epoch's are.
        watch=(lambda values: None) if config.on_nan == "skip" else watch.look,
    )


def _averaged(config: RunConfig) -> list[keras.callbacks.Callback]:
    return [AveragedWeights()] if config.ema else []


def _options(config: RunConfig, run: RunFolder) -> list[keras.callbacks.Callback]:
    """What only some runs have beside them."""
    return [*_averaged(config), *([Trace(run.tensorboard, config.profile)] if config.profile else [])]


def _records(
    config: RunConfig,
    run: RunFolder,
    model: MultiTaskModel,
    splits: Splits,
    clock: callbacks.Clock,
    writer: EventWriter,
    recorded: int,
) -> list[keras.callbacks.Callback]:
    steps_per_epoch = splits.train.steps_per_epoch
    images, labels = splits.val[0]
    images, labels = images[:PICTURES], {name: label[:PICTURES] for name, label in labels.items()}
    skipped = [faults.SkippedSteps(clock, steps_per_epoch, _ids(splits), console.print)]
    return [
        *(skipped if config.on_nan == "skip" else []),
        callbacks.MetricsTable(run.metrics, clock, recorded),
        callbacks.TensorBoard(writer, clock, _waiting(clock, splits)),
        callbacks.Pictures(images, labels, run.pictures, writer, backend.local_predictor(model)),
    ]


def _ids(splits: Splits) -> Callable[[int], list[str]]:
    """Gives the ids of an absolute step's images."""
    return lambda step: splits.train.ids(step - splits.train.start_step)


def _waiting(clock: callbacks.Clock, splits: Splits) -> Callable[[], dict[str, float]]:
    started = clock.seconds
    return lambda: {"wait_for_data_percent": 100 * splits.train.wait_seconds / max(clock.seconds - started, 1e-9)}


def _fit(
    config: RunConfig, model: MultiTaskModel, splits: Splits, step: int, beside: list, *, validate: bool = True
) -> None:
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
            validation_data=splits.val if validate else None,
            callbacks=callbacks.CallbackList([*first, *beside], add_history=True, model=model),
            verbose=0,
        )

    if done:
        under_way = {v.path: keras.ops.convert_to_numpy(v) for v in model.metrics_variables}
        fit(epoch, epoch + 1, steps_per_epoch - done, [_RestoreMetrics(under_way)])
        epoch += 1
    elif step and validate:
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
            backend.assign_total(variable, self.values[variable.path])


def finish(config: RunConfig, run: RunFolder, splits: Splits, baseline: dict[str, float] | None) -> None:
    """Turns the best checkpoint into `model.keras`, and writes the run's figures, card and export."""
    facts = read_tensors(run.best)[1]
    best = zoo.load(run.best)
    with replacing(run.model) as temporary, quiet.without_tensorflow():
        best.save(temporary)
    splits.val.close()
    history = callbacks.read_metrics(run.metrics)
    viz.plot_history(_columns(history), run.pictures / "curves.png")
    card.write(run, config, best, history, facts, baseline)
    dashboards.end(run, config, facts)
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
    # This process holds the GPU's memory, and a graph is made as well without one.
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(command, env=environment, check=False)
    if done.returncode:
        raise UserError(f"{run.path}: trained, but not exported; run `{' '.join(command[1:])}` to see why")
