"""What a run trains with, and its steps: from any step of any epoch to the end."""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np

from mtl_keras import backend, callbacks
from mtl_keras.checkpoints import SavedState, assign_weights, restore_training_state, weights_of
from mtl_keras.model import MultiTaskModel
from trainers import same_data
from trainers.assemble import Splits, compile_model, make_model, make_splits
from trainers.config import RunConfig


@dataclasses.dataclass(frozen=True)
class Session:
    """What a run trains with.

    Args:
        config: what the run is.
        parallel: the devices that share every batch.
        splits: the data.
        model: what is trained.
    """

    config: RunConfig
    parallel: backend.Parallel
    splits: Splits
    model: MultiTaskModel

    @classmethod
    def of(cls, config: RunConfig, parallel: backend.Parallel, state: SavedState | None = None) -> "Session":
        """Opens the data and builds the model that a configuration names; raises `UserError` for data not a state's."""
        splits = make_splits(config, parallel)
        same_data.check(state[2].get("data", {}) if state else {}, splits)
        # A state has all weights: those that the run began with may be gone since.
        made_of = dataclasses.replace(config, init_from=None, pretrained=None) if state else config
        with parallel.scope():
            model = make_model(made_of, splits.train.dataset.spec)
        return cls(config, parallel, splits, model)

    @property
    def steps_per_epoch(self) -> int:
        return self.splits.train.steps_per_epoch

    def begin(self, state: SavedState | None) -> callbacks.Clock:
        """Makes the model ready for the step after its state, or for the first one; gives the clock of its steps."""
        compile_model(self.config, self.model, self.steps_per_epoch)
        self.parallel.prepare(self.model)
        backend.build_optimizer(self.model)
        step, arrays, facts = state or (0, None, {})
        if arrays is not None:
            restore_training_state(self.model, arrays)
        return callbacks.Clock(step, facts.get("seconds", 0.0), facts.get("learning_rate", 0.0))

    def fit(self, step: int, beside: Sequence[keras.callbacks.Callback], *, validate: bool = True) -> None:
        """Fits from a step on: what is left of its epoch, then all whole epochs.

        Args:
            step: how many steps have been done.
            beside: the callbacks.
            validate: whether each epoch ends with the validation split.
        """
        epoch, done = divmod(step, self.steps_per_epoch)
        if done:
            under_way = {v.path: keras.ops.convert_to_numpy(v) for v in self.model.metrics_variables}
            self._fit(epoch, epoch + 1, done, [_RestoreMetrics(under_way), *beside], validate)
            epoch += 1
        elif step and validate:
            self._finish_epoch(epoch - 1, beside)
        if epoch < self.config.epochs:
            self._fit(epoch, self.config.epochs, 0, beside, validate)

    def image_ids(self, step: int) -> list[str]:
        """The ids of a step's images; steps count from 0, the run's first."""
        return self.splits.train.ids(step - self.splits.train.start_step)

    def validate(self) -> dict[str, float]:
        """The validation split's metrics, by the names that logs have without their `val_`."""
        return callbacks.numbers(self.model.evaluate(self.splits.val, verbose=0, return_dict=True))

    def forget(self) -> None:
        """Gives the model the weights that the run began with."""
        assign_weights(self.model, weights_of(make_model(self.config, self.model.spec)))

    def _fit(
        self, epoch: int, epochs: int, done: int, beside: Sequence[keras.callbacks.Callback], validate: bool
    ) -> None:
        """Fits to the end of a number of epochs; of the first one, some steps are done."""
        self.splits.train.go_to(epoch * self.steps_per_epoch + done)
        # Keras tells its own list of callbacks of them, not ours.
        params = {"epochs": epochs, "steps": self.steps_per_epoch - done}
        self.model.fit(
            self.splits.train,
            shuffle=False,
            steps_per_epoch=self.steps_per_epoch - done,
            initial_epoch=epoch,
            epochs=epochs,
            validation_data=self.splits.val if validate else None,
            callbacks=callbacks.CallbackList(list(beside), add_history=True, model=self.model, **params),
            verbose=0,
        )

    def _finish_epoch(self, epoch: int, beside: Sequence[keras.callbacks.Callback]) -> None:
        """Validates and records an epoch whose last step is saved: what `fit` does at an epoch's end."""
        logs = callbacks.numbers(self.model.get_metrics_result())
        together = callbacks.CallbackList(list(beside), model=self.model)
        validation = self.model.evaluate(self.splits.val, callbacks=together, verbose=0, return_dict=True)
        together.on_epoch_end(epoch, {**logs, **{f"val_{name}": value for name, value in validation.items()}})


class _RestoreMetrics(keras.callbacks.Callback):
    """Puts the metrics under way back, which Keras resets at an epoch's begin."""

    def __init__(self, values: dict[str, np.ndarray]):
        super().__init__()
        self.values = values

    def on_epoch_begin(self, epoch, logs=None):
        for variable in self.model.metrics_variables:
            backend.assign_total(variable, self.values[variable.path])
