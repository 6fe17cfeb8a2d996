"""Averaged weights in the place of the trained ones, where a model is judged and kept."""

import keras
import numpy as np

from mtl_keras.backend import build_optimizer
from mtl_keras.optimizers import unwrapped


class AveragedWeights(keras.callbacks.Callback):
    """Puts an optimizer's averages into the model when its validation begins, and its own weights back at epoch's end.

    In between are the validation, and the callbacks before this one that picture and keep the model. The statistics of
    batch norms are averages already and stay as they are. Given to `evaluate`, it puts the weights back at its end.

    Where `fit` or `evaluate` fails meanwhile, the averages stay in the model until `restore` is called.
    """

    def __init__(self):
        super().__init__()
        self._own: list[np.ndarray] | None = None
        self._within_epoch = False

    def restore(self) -> None:
        """Puts the model's own weights back, if they are out; for a `finally` around `fit`."""
        self._within_epoch = False
        own, self._own = self._own, None
        if own is not None:
            for weight, value in zip(self.model.trainable_variables, own, strict=True):
                weight.assign(value)

    def on_train_begin(self, logs=None):
        # What a fit that failed left behind is not what the model holds by now.
        self._own = None
        self._averages()

    def on_epoch_begin(self, epoch, logs=None):
        self._within_epoch = True

    def on_test_begin(self, logs=None):
        if self._own is not None:
            return
        averages, weights = self._averages(), self.model.trainable_variables
        self._own = [np.array(keras.ops.convert_to_numpy(weight)) for weight in weights]
        for weight, average in zip(weights, averages, strict=True):
            weight.assign(np.array(keras.ops.convert_to_numpy(average)))

    def on_test_end(self, logs=None):
        if not self._within_epoch:
            self.restore()

    def on_epoch_end(self, epoch, logs=None):
        self.restore()

    def _averages(self) -> list[keras.Variable]:
        optimizer = unwrapped(self.model.optimizer)
        if getattr(optimizer, "ema", None) is None:
            raise ValueError("AveragedWeights finds no averages; give the optimizer a decay, such as ema=0.999")
        build_optimizer(self.model)
        return optimizer.averages
