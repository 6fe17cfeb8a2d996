"""PyTorch's SGD and Adam, which the report's numbers were made with.

Keras' own differ where nobody looks: their weight decay is decoupled (AdamW), Adam's epsilon is added before the bias
correction, and SGD's momentum keeps the learning rates of the steps behind it.
"""

import keras
from keras import ops


class _CoupledWeightDecay:
    """Adds `weight_decay`·w to the gradient of every trainable parameter, biases and batch norms included."""

    def __init__(self, *args, weight_decay: float = 0.0, **kwargs):
        super().__init__(*args, **kwargs)
        # Not in Keras' own `weight_decay`, which decays apart from the gradient.
        self.coupled_weight_decay = weight_decay

    def _decayed(self, gradient, variable):
        gradient = ops.cast(gradient, variable.dtype)
        return gradient + self.coupled_weight_decay * variable if self.coupled_weight_decay else gradient

    def get_config(self):
        return {**super().get_config(), "weight_decay": self.coupled_weight_decay}


@keras.saving.register_keras_serializable("mtl_keras")
class SGD(_CoupledWeightDecay, keras.optimizers.SGD):
    """`torch.optim.SGD`: m ← momentum·m + g, then w ← w − learning_rate·m.

    Args as in `keras.optimizers.SGD`, but `weight_decay` is coupled; `nesterov` is not supported.
    """

    def __init__(self, learning_rate=0.01, momentum: float = 0.9, **kwargs):
        if kwargs.get("nesterov"):
            raise ValueError("nesterov: not supported by mtl_keras.optimizers.SGD; use keras.optimizers.SGD")
        super().__init__(learning_rate, momentum=momentum, **kwargs)

    def update_step(self, gradient, variable, learning_rate):
        gradient = self._decayed(gradient, variable)
        if self.momentum:
            buffer = self.momentums[self._get_variable_index(variable)]
            self.assign(buffer, buffer * self.momentum + gradient)
            gradient = buffer
        self.assign_sub(variable, gradient * ops.cast(learning_rate, variable.dtype))


@keras.saving.register_keras_serializable("mtl_keras")
class Adam(_CoupledWeightDecay, keras.optimizers.Adam):
    """`torch.optim.Adam`: epsilon is added after the bias correction, and weight decay is coupled.

    Args as in `keras.optimizers.Adam`, but for `epsilon`, 1e-8, and the coupled `weight_decay`.
    """

    def __init__(self, learning_rate=1e-4, epsilon: float = 1e-8, **kwargs):
        if kwargs.get("amsgrad"):
            raise ValueError("amsgrad: not supported by mtl_keras.optimizers.Adam; use keras.optimizers.Adam")
        super().__init__(learning_rate, epsilon=epsilon, **kwargs)

    def update_step(self, gradient, variable, learning_rate):
        gradient = self._decayed(gradient, variable)
        index = self._get_variable_index(variable)
        mean, square = self._momentums[index], self._velocities[index]
        self.assign(mean, mean + (gradient - mean) * (1 - self.beta_1))
        self.assign(square, square + (ops.square(gradient) - square) * (1 - self.beta_2))
        step = ops.cast(self.iterations + 1, "float32")
        mean_correction, square_correction = (1 - ops.power(beta, step) for beta in (self.beta_1, self.beta_2))
        rate = ops.cast(learning_rate, "float32") / mean_correction
        self.assign_sub(variable, rate * mean / (ops.sqrt(square / square_correction) + self.epsilon))


@keras.saving.register_keras_serializable("mtl_keras")
class PolyDecay(keras.optimizers.schedules.LearningRateSchedule):
    """The "poly" schedule, stepped once an epoch: initial · max((1 − epoch/epochs)^power, floor).

    Args:
        initial_learning_rate: at the first epoch.
        epochs: number of epochs of the run.
        steps_per_epoch: steps of the optimizer an epoch.
        power: 0.9 in the report.
        floor: least factor.
    """

    def __init__(self, initial_learning_rate, epochs: int, steps_per_epoch: int, power=0.9, floor=1e-6):
        super().__init__()
        self.initial_learning_rate = initial_learning_rate
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.power = power
        self.floor = floor

    def __call__(self, step):
        epoch = ops.cast(ops.floor_divide(ops.cast(step, "int32"), self.steps_per_epoch), "float32")
        left = ops.maximum(1.0 - epoch / self.epochs, 0.0)
        return self.initial_learning_rate * ops.maximum(ops.power(left, self.power), self.floor)

    def get_config(self):
        names = ("initial_learning_rate", "epochs", "steps_per_epoch", "power", "floor")
        return {name: getattr(self, name) for name in names}
