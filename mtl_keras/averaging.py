"""Averaged weights in the place of the trained ones, where a model is judged and kept."""

import keras
import numpy as np

from mtl_keras.optimizers import unwrapped


class AveragedWeights(keras.callbacks.Callback):
    """Puts an optimizer's averages into the model when its validation begins, and its own weights back at epoch's end.

    In between are the validation, and the callbacks before this one that picture and keep the model. The statistics of
    batch norms are averages already and stay as they are.
    """

    def __init__(self):
        super().__init__()
        self._own: list[np.ndarray] | None = None

    def on_train_begin(self, logs=None):
        if getattr(unwrapped(self.model.optimizer), "ema", None) is None:
            raise ValueError("AveragedWeights finds no averages; give the optimizer a decay, such as ema=0.999")

    def on_test_begin(self, logs=None):
        weights = self.model.trainable_variables
        self._own = [np.array(keras.ops.convert_to_numpy(weight)) for weight in weights]
        for weight, average in zip(weights, unwrapped(self.model.optimizer).averages, strict=True):
            weight.assign(np.array(keras.ops.convert_to_numpy(average)))

    def on_epoch_end(self, epoch, logs=None):
        if self._own is not None:
            for weight, value in zip(self.model.trainable_variables, self._own, strict=True):
                weight.assign(value)
            self._own = None
