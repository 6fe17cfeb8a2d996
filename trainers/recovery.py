"""What happens when a loss is not finite: the first bad batch is found, named, and, with a rollback, left out.

A step follows from the state before it and from its batch, which follows from the seed and the step. So training goes
back to the last saved state and repeats its steps, looking at each, until it comes to the one that failed.
"""

import dataclasses
import math
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import keras
import numpy as np

from mtl_keras.callbacks import Clock, numbers
from mtl_keras.checkpoints import SavedState, State, restore_training_state, training_state
from mtl_keras.faults import NotFinite, all_finite, where_not_finite
from mtl_keras.model import MultiTaskModel
from mtl_keras.optimizers import unwrapped
from mtl_keras.saving import LastState
from trainers.cli import EXIT_NOT_FINITE
from trainers.run_folder import RunFolder
from trainers.session import Session

MOST_ROLLBACKS = 5

_ADVICE = "a lower learning rate or --clip_norm may help"


@dataclasses.dataclass(frozen=True)
class Fault:
    """The first step that failed, counted from 0, the epoch's learning rate, the state before it, and what is known."""

    step: int
    learning_rate: float
    before: State
    ids: list[str]
    where: str

    def __str__(self) -> str:
        return f"step {self.step + 1}, images {', '.join(self.ids)}, first in {self.where}"


def recover(
    session: Session, run: RunFolder, last: LastState, noticed: NotFinite, rollbacks_left: int, say: Callable
) -> SavedState:
    """Finds the first bad batch; gives the state to go on from behind it, or ends the process.

    The state before the bad batch is saved, so that the run can go on from there.

    Raises:
        SystemExit: with `EXIT_NOT_FINITE`, unless the run is to roll back, and may.
    """
    on_nan = session.config.on_nan
    last.wait()
    if noticed.all_skipped:
        # Nothing stands behind it to go on from: the weights are finite, but of no use.
        _stop(f"no step of an epoch, by step {noticed.step}, had finite gradients: all were skipped; {_ADVICE}, anew")
    say(f"the loss is not finite by step {noticed.step}; looking for the first bad batch")
    fault = _find(session, last, noticed.step)
    if fault is None:
        _stop(
            f"the loss is not finite by step {noticed.step}, but stays finite when the steps since the last saved "
            f"state are repeated: this device's sums differ from time to time; go on with --resume={run.path}"
        )
    if on_nan == "rollback" and rollbacks_left:
        say(f"rolled back: {fault}; this batch is left out")
        return _behind(session, last, fault)
    _save(last, fault.step, fault.before, fault.learning_rate)
    mend = _ADVICE if on_nan != "stop" else f"go on without this batch by --on_nan=rollback, or {_ADVICE}"
    spent = f" after {MOST_ROLLBACKS} rollbacks" if on_nan == "rollback" else ""
    _stop(f"the loss is not finite{spent}: {fault}; the state before it is saved: --resume={run.path}; {mend}")


def _find(session: Session, last: LastState, noticed: int) -> Fault | None:
    """Repeats the steps since the last saved state, up to the one that the fault was noticed at."""
    model, train = session.model, session.splits.train
    state = last.files.load()
    if state is None:
        session.forget()
        clock = session.begin(None)
        model.reset_metrics()
    else:
        restore_training_state(model, state[1])
        clock = Clock(state[0], learning_rate=state[2].get("learning_rate", 0.0))
    search = _Search(clock, noticed, training_state(model))
    try:
        session.fit(clock.step, [clock, search], validate=False)
    except _Found:
        pass
    finally:
        train.close()
    if search.after is None:
        return None
    step = clock.step - 1
    train.go_to(step)
    images, labels = train[0]
    restore_training_state(model, search.before)
    where = where_not_finite(model, images, labels) or _bad_gradients(model, search.after)
    return Fault(step, clock.learning_rate, search.before, session.image_ids(step), where)


def _bad_gradients(model: MultiTaskModel, after: State) -> str:
    """Gradients come from the back to the front, so the last weight that they spoiled was the first."""
    spoiled = [v.path for v in model.trainable_variables if not np.isfinite(after[f"model/{v.path}"]).all()]
    return f"the gradients of {spoiled[-1]}" if spoiled else "the gradients"


def _behind(session: Session, last: LastState, fault: Fault) -> SavedState:
    """Saves and gives the state before the bad step as if that step were done and had changed nothing."""
    model = session.model
    restore_training_state(model, fault.before)
    if fault.step % session.steps_per_epoch == 0:
        model.reset_metrics()
    unwrapped(model.optimizer).pass_over()
    return _save(last, fault.step + 1, training_state(model), fault.learning_rate)


def _save(last: LastState, step: int, state: State, learning_rate: float) -> SavedState:
    facts = {**last.facts(), "learning_rate": learning_rate}
    last.files.save(step, state, facts)
    return step, state, facts


def _stop(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(EXIT_NOT_FINITE)


class _Found(Exception):
    """Ends the repetition."""


class _Search(keras.callbacks.Callback):
    """Looks at every step: its loss, the state behind it, and whether the optimizer skipped it.

    Args:
        clock: of the repetition.
        last_step: where to end without a fault.
        before: the state that the repetition begins with.
    """

    def __init__(self, clock: Clock, last_step: int, before: State):
        super().__init__()
        self.clock = clock
        self.last_step = last_step
        self.before = before
        self.after: State | None = None

    def on_train_batch_end(self, batch, logs: Any = None):
        state = training_state(self.model)
        if self._skipped(state) or not (math.isfinite(numbers(logs)["loss"]) and all_finite(state)):
            self.after = state
            raise _Found
        self.before = state
        if self.clock.step >= self.last_step:
            raise _Found

    def _skipped(self, state: State) -> bool:
        counts = (name for name in state if name.startswith("optimizer/") and name.endswith("/skipped"))
        return any(state[name] > self.before[name] for name in counts)
