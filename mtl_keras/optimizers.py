"""PyTorch's SGD, Adam and AdamW, which the report's numbers were made with.

Keras' own differ where nobody looks: their weight decay is decoupled (AdamW), Adam's epsilon is added before the bias
correction, and SGD's momentum keeps the learning rates of the steps behind it.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import keras
from keras import ops


class Group(NamedTuple):
    """How some parameters are trained differently, as by PyTorch's parameter groups.

    Args:
        scale: factor of the learning rate.
        frozen_steps: for so many first steps they do not move, and their moments stay as they were at the start.
    """

    scale: float = 1.0
    frozen_steps: int = 0


class _TorchOptimizer:
    """Coupled weight decay and parameter groups.

    `weight_decay`·w is added to the gradient of every trainable parameter, biases and batch norms included. `groups`
    gives a `Group` to the parameters whose path begins so, such as `{"encoder/": Group(scale=0.1)}`. Both are part of
    the config; a group's steps are counted by `iterations`, so training that is resumed goes on as it would have.
    """

    def __init__(self, *args, weight_decay: float = 0.0, groups: Mapping[str, Group] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        # Not in Keras' own `weight_decay`, which decays apart from the gradient.
        self.decay = weight_decay
        self.groups = {path: Group(**g) if isinstance(g, Mapping) else Group(*g) for path, g in (groups or {}).items()}

    def build(self, variables):
        super().build(variables)
        paths = [variable.path for variable in variables]
        for prefix in self.groups:
            if not any(path.startswith(prefix) for path in paths):
                raise ValueError(f"groups: no trainable parameter's path begins with '{prefix}'")
        # By index: a backend may hand its own variables to `update_step`, which have no path.
        self._group_of = [
            next((group for prefix, group in self.groups.items() if path.startswith(prefix)), Group()) for path in paths
        ]

    def _group(self, variable) -> Group:
        return self._group_of[self._get_variable_index(variable)]

    def _unless_frozen(self, value, variable):
        """The value, or zeros while the variable is frozen."""
        frozen_steps = self._group(variable).frozen_steps
        return ops.where(self.iterations >= frozen_steps, value, ops.zeros_like(value)) if frozen_steps else value

    def _rate(self, learning_rate, variable):
        return ops.cast(learning_rate, variable.dtype) * self._group(variable).scale

    def _decayed(self, gradient, variable):
        gradient = ops.cast(gradient, variable.dtype)
        return self._unless_frozen(gradient + self.decay * variable if self.decay else gradient, variable)

    def get_config(self):
        groups = {path: group._asdict() for path, group in self.groups.items()}
        return {**super().get_config(), "weight_decay": self.decay, "groups": groups}


@keras.saving.register_keras_serializable("mtl_keras")
class SGD(_TorchOptimizer, keras.optimizers.SGD):
    """`torch.optim.SGD`: m ← momentum·m + g, then w ← w − learning_rate·m.

    Args as in `keras.optimizers.SGD`, but `weight_decay` is coupled, `nesterov` is not supported, and `groups` maps
    the beginning of parameters' paths to a `Group`.
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
        self.assign_sub(variable, gradient * self._rate(learning_rate, variable))


@keras.saving.register_keras_serializable("mtl_keras")
class Adam(_TorchOptimizer, keras.optimizers.Adam):
    """`torch.optim.Adam`: epsilon is added after the bias correction, and weight decay is coupled.

    Args as in `keras.optimizers.Adam`, but for `epsilon`, 1e-8, the coupled `weight_decay`, and `groups`, which maps
    the beginning of parameters' paths to a `Group`.
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
        # The bias correction counts the steps that moved the moments, as PyTorch counts them for each parameter.
        step = ops.cast(ops.maximum(self.iterations + 1 - self._group(variable).frozen_steps, 1), "float32")
        mean_correction, square_correction = _bias_correction(self.beta_1, step), _bias_correction(self.beta_2, step)
        rate = self._rate(learning_rate, variable) / mean_correction
        self.assign_sub(variable, rate * mean / (ops.sqrt(square / square_correction) + self.epsilon))


@keras.saving.register_keras_serializable("mtl_keras")
class AdamW(Adam):
    """`torch.optim.AdamW`: as `Adam`, but weight decay is decoupled: w ← w − learning_rate·weight_decay·w."""

    def _decayed(self, gradient, variable):
        return self._unless_frozen(ops.cast(gradient, variable.dtype), variable)

    def update_step(self, gradient, variable, learning_rate):
        if self.decay:
            decay = self._rate(learning_rate, variable) * self.decay * variable
            self.assign_sub(variable, self._unless_frozen(decay, variable))
        super().update_step(gradient, variable, learning_rate)


def _bias_correction(beta: float, step):
    """1 − beta^step. In float32 the difference as written keeps only five digits of 1 − 0.999."""
    return -ops.expm1(step * math.log(beta)) if beta else 1.0


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
