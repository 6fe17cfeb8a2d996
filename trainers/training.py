"""A run from its first step, or from where it stopped, to its end."""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from mtl_keras import backend, callbacks, faults, saving
from mtl_keras.averaging import AveragedWeights
from mtl_keras.checkpoints import SavedState, StateFiles
from mtl_keras.cost import count_parameters
from mtl_keras.errors import UserError
from mtl_keras.event_writer import EventWriter
from mtl_keras.profiling import Trace
from mtl_keras.progress import ProgressBar
from trainers import cli, dashboards, recovery, same_data
from trainers.config import RunConfig
from trainers.devices import StopTogether
from trainers.finishing import finish
from trainers.run_folder import RunFolder, create, locked, writable
from trainers.session import Session
from trainers.signals import ending_at_once

PICTURES = 4

console = cli.console()


def start(config: RunConfig, given: dict[str, Any], parallel: backend.Parallel) -> None:
    """Starts a new run; flags that were given override the configuration's fields."""
    config = dataclasses.replace(config, **given)
    writable(Path(config.runs_dir), "runs_dir")
    session = Session.of(config, parallel)
    if backend.process_index():
        follow(session, state=None)
        return
    run = create(config)
    with locked(run), _stoppable(run):
        train(session, run, state=None)


def resume(run: RunFolder, config: RunConfig, parallel: backend.Parallel) -> None:
    """Goes on with a run from its last saved state."""
    follows = backend.process_index() > 0
    with contextlib.nullcontext() if follows else locked(run), _stoppable(run):
        state = _last_state(run)
        session = Session.of(config, parallel, state)
        if follows:
            follow(session, state)
        else:
            train(session, run, state)


def _stoppable(run: RunFolder) -> contextlib.AbstractContextManager[None]:
    """Lets signals end the process wherever it is; of several processes, they reach one and all stop together."""
    if backend.process_count() > 1:
        return contextlib.nullcontext()
    return ending_at_once(cli.EXIT_STOPPED, f"stopped; go on with --resume {run.path}")


def _last_state(run: RunFolder) -> SavedState | None:
    """A run's last whole state; None where it was stopped before its first.

    Raises:
        UserError: its states are lost. To start at its first step again would write over what it came to.
    """
    states = StateFiles(run.checkpoints)
    state = states.load()
    if state is None and (states.damaged or run.model.is_file() or len(_epochs(run)) > 1):
        lost = f"{states.damaged[0].name} is damaged, and there is no other" if states.damaged else "there is none"
        raise UserError(
            f"{run.path}: no state to go on from ({lost}); train it anew with --config={run.config}, "
            f"or start from its weights with --init_from={run.path}"
        )
    for damaged in states.damaged:
        console.print(f"{damaged} is damaged; the state before it is used")
    return state


def _epochs(run: RunFolder) -> list[dict[str, float]]:
    return callbacks.read_metrics(run.metrics) if run.metrics.is_file() else []


def train(session: Session, run: RunFolder, state: SavedState | None) -> None:
    """Trains from a state, or from the start, and finishes the run."""
    with session.parallel.scope():
        rollbacks_left = recovery.MOST_ROLLBACKS
        while behind := _train(session, run, state, rollbacks_left):
            state, rollbacks_left = behind, rollbacks_left - 1
        baseline = _validate_untrained(session)
    session.splits.val.close()
    backend.disconnect()
    finish(session.config, run, baseline, console)


def follow(session: Session, state: SavedState | None) -> None:
    """Takes part in what the main process trains, from its share of each batch, and writes nothing."""
    with session.parallel.scope():
        clock = session.begin(state)
        beside = [clock, callbacks.NearDevice(), *_averaged(session.config), StopTogether(None)]
        try:
            session.fit(clock.step, beside)
        except saving.Stopped:
            sys.exit(cli.EXIT_STOPPED)
        finally:
            session.splits.train.close()
        _validate_untrained(session)
    session.splits.val.close()
    backend.disconnect()


def _train(session: Session, run: RunFolder, state: SavedState | None, rollbacks_left: int) -> SavedState | None:
    """Trains, with everything that a run keeps of it; gives the state to go on from where it rolled back."""
    config = session.config
    clock = session.begin(state)
    step, kept = clock.step, state[2].get("best") if state else None
    _announce(session, run, step)
    with _event_writer(session, run, step) as writer:
        best = saving.BestWeights(run.best, kept)
        last = saving.LastState(
            StateFiles(run.checkpoints),
            clock,
            best,
            session.steps_per_epoch,
            minutes=config.save_every,
            steps=config.save_steps,
            about={"data": same_data.facts_of(session.splits)},
        )
        stop = StopTogether(last) if backend.process_count() > 1 else saving.StopOnSignal(last)
        watch = faults.LossWatch(clock)
        progress = _progress(session, step, watch)
        watches = [clock, callbacks.NearDevice(), watch, *_skipped(session, clock), progress]
        traces = [Trace(run.tensorboard, config.profile)] if config.profile else []
        # The best weights come after the pictures and the table: once they are kept, the epoch is.
        records = [*_records(session, run, clock, writer), best, *_averaged(config), *traces]
        try:
            session.fit(step, [*watches, *records, last, stop])
            last.wait()
            return None
        except faults.NotFinite as error:
            fault = error
        except saving.Stopped:
            console.print(f"stopped after step {clock.step}; go on with --resume {run.path}")
            sys.exit(cli.EXIT_STOPPED)
        finally:
            for trace in traces:
                trace.close()
            progress.close()
            session.splits.train.close()
            stop.restore()
    if backend.process_count() > 1:
        raise UserError(f"the loss is not finite by step {fault.step}; --resume {run.path} in one process says why")
    return recovery.recover(session, run, last, fault, rollbacks_left, console.print)


def _announce(session: Session, run: RunFolder, step: int) -> None:
    config, size = session.config, count_parameters(session.model) / 1e6
    done = step == config.epochs * session.steps_per_epoch
    place = " · every step is done" if done else f" · from step {step}" if step else ""
    console.print(
        f"{backend.describe()} · {config.precision} · {config.arch}/{config.encoder}, {size:.1f} M parameters · "
        f"{run.path}{place}"
    )
    if warning := backend.idle_gpu_warning():
        print(warning, file=sys.stderr)


@contextlib.contextmanager
def _event_writer(session: Session, run: RunFolder, step: int) -> Iterator[EventWriter]:
    """Writes a run's events from a step on, over those of an epoch that was cut off."""
    purge_step = _recorded(session, step) + 1 if step else 0 if run.tensorboard.is_dir() else None
    with EventWriter(run.tensorboard, purge_step=purge_step) as writer:
        if not step:
            dashboards.begin(writer, session.config, session.model)
        yield writer


def _recorded(session: Session, step: int) -> int:
    """The epochs that are recorded once a step is done; one whose validation a stop cut off is recorded again."""
    return max(step - 1, 0) // session.steps_per_epoch


def _progress(session: Session, step: int, watch: faults.LossWatch) -> ProgressBar:
    return ProgressBar(
        session.config.epochs,
        session.steps_per_epoch,
        step,
        console,
        waited=lambda: session.splits.train.wait_seconds,
        # The logs of a step that is skipped are not finite; the epoch's are.
        watch=(lambda values: None) if session.config.on_nan == "skip" else watch.look,
    )


def _records(
    session: Session, run: RunFolder, clock: callbacks.Clock, writer: EventWriter
) -> list[keras.callbacks.Callback]:
    images, labels = session.splits.val[0]
    images, labels = images[:PICTURES], {name: label[:PICTURES] for name, label in labels.items()}
    started, train = clock.seconds, session.splits.train

    def waiting() -> dict[str, float]:
        return {"wait_for_data_percent": 100 * train.wait_seconds / max(clock.seconds - started, 1e-9)}

    return [
        callbacks.MetricsTable(run.metrics, clock, _recorded(session, clock.step)),
        callbacks.TensorBoard(writer, clock, waiting),
        callbacks.Pictures(images, labels, run.pictures, writer, backend.local_predictor(session.model)),
    ]


def _skipped(session: Session, clock: callbacks.Clock) -> list[keras.callbacks.Callback]:
    if session.config.on_nan != "skip":
        return []
    return [faults.SkippedSteps(clock, session.steps_per_epoch, session.image_ids, console.print)]


def _averaged(config: RunConfig) -> list[keras.callbacks.Callback]:
    return [AveragedWeights()] if config.ema else []


def _validate_untrained(session: Session) -> dict[str, float] | None:
    """Validation metrics of the weights that the run began with, where the run asks for them."""
    if not session.config.baseline:
        return None
    session.forget()
    return session.validate()
