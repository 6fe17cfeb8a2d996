"""PyTorch's SGD, Adam and AdamW, which the report's numbers were made with.

Keras' own differ where nobody looks: their weight decay is decoupled (AdamW), Adam's epsilon is added before the bias
correction, and SGD's momentum keeps the learning rates of the steps behind it.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import keras
from keras import ops

from mtl_keras import backend
from mtl_keras.initializers import zeros


class Group(NamedTuple):
    """How some parameters are trained differently, as by PyTorch's parameter groups.

    Args:
        scale: factor of the learning rate.
        frozen_steps: for so many first steps they do not move, and their moments stay as they were at the start.
    """

    scale: float = 1.0
    frozen_steps: int = 0


class _TorchOptimizer(keras.optimizers.Optimizer):
    """Coupled weight decay and parameter groups, averaged weights, and steps that are left out.

    `weight_decay`·w is added to the gradient of every trainable parameter, biases and batch norms included. `groups`
    gives a `Group` to the parameters whose path begins so, such as `{"encoder/": Group(scale=0.1)}`. A group's steps
    are counted by `iterations`, so training that is resumed goes on as it would have.

    `gradient_accumulation_steps` and `global_clipnorm` are Keras' own: the weights move once in so many steps, by the
    mean of their gradients, whose norm over all parameters is then clipped, before any weight decay.

    `ema` keeps in `averages` an exponential moving average of the weights: after the n-th time that they moved,
    average ← d·average + (1 − d)·w with d = min(ema, (n − 1)/(n + 8)), so that an average of few steps is not ruled by
    the initial weights. Unlike with Keras' `use_ema`, nothing puts the averages into the model by itself.

    With `skip_non_finite`, a step whose gradients' norm is not finite moves neither weights nor moments nor averages.
    `skipped` counts such steps and `last_skipped` is the latest, from 0; the schedule's steps go on.

    All of them are part of the config. On several replicas of TensorFlow's none of accumulation, clipping, `ema` and
    `skip_non_finite` may be used: each replica would see its own gradients alone.
    """

    def __init__(
        self,
        *args,
        weight_decay: float = 0.0,
        groups: Mapping[str, Group] | None = None,
        ema: float | None = None,
        skip_non_finite: bool = False,
        **kwargs,
    ):
        if kwargs.get("use_ema"):
            raise ValueError("use_ema: not supported by mtl_keras.optimizers; give ema=0.999 or another decay")
        super().__init__(*args, **kwargs)
        # Not in Keras' own `weight_decay`, which decays apart from the gradient.
        self.decay = weight_decay
        self.groups = {path: Group(**g) if isinstance(g, Mapping) else Group(*g) for path, g in (groups or {}).items()}
        self.ema = ema
        self.skip_non_finite = skip_non_finite
        if skip_non_finite:
            self.skipped = self.add_variable((), "zeros", dtype="int32", name="skipped")
            self.last_skipped = self.add_variable((), "zeros", dtype="int32", name="last_skipped")
        # Where a step may be left out: whether this one moves anything, on the device.
        self._moves = None

    @property
    def iterations(self):
        """How often the weights have moved."""
        steps = self._iterations - self.skipped if self.skip_non_finite else self._iterations
        return steps // self.gradient_accumulation_steps if self.gradient_accumulation_steps else steps

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        raise ValueError("exclude_from_weight_decay: not supported; all parameters are decayed")

    def pass_over(self) -> None:
        """Counts a step that is left out, so that the schedule goes on as if it were done."""
        self._iterations.assign_add(1)

    def add_variable_from_reference(self, reference_variable, name=None, initializer="zeros"):
        initializer = zeros if initializer == "zeros" else initializer
        return super().add_variable_from_reference(reference_variable, name, initializer)

    def build(self, variables):
        super().build(variables)
        if self.ema is not None:
            self.averages = self.add_optimizer_variables(variables, "average")
            for average, variable in zip(self.averages, variables, strict=True):
                # A copy: JAX gives a step the memory of its variables, each once.
                average.assign(ops.copy(variable))
        paths = [variable.path for variable in variables]
        for prefix in self.groups:
            if not any(path.startswith(prefix) for path in paths):
                raise ValueError(f"groups: no trainable parameter's path begins with '{prefix}'")
        # By index: a backend may hand its own variables to `update_step`, which have no path.
        self._group_of = [
            next((group for prefix, group in self.groups.items() if path.startswith(prefix)), Group()) for path in paths
        ]

    def _backend_apply_gradients(self, gradients, variables):
        """A step, alike on all backends: what must not move keeps its value, and no step waits for the host."""
        gradients = backend.in_order(gradients)
        gradients = [self._unless_frozen(ops.cast(g, v.dtype), v) for g, v in zip(gradients, variables, strict=True)]
        finite = ops.isfinite(_squared_norm(gradients)) if self.skip_non_finite else None
        moves = finite
        if self.gradient_accumulation_steps:
            gradients, is_last = self._accumulated(gradients, variables, finite)
            moves = is_last if finite is None else ops.logical_and(is_last, finite)
        self._moves = moves
        self._backend_update_step(self._clip_gradients(gradients), variables, self.learning_rate)
        if self.ema is not None:
            self._move_averages()
        self._moves = None
        if finite is not None:
            self.skipped.assign_add(ops.cast(ops.logical_not(finite), "int32"))
            before, now = (ops.cast(count, "int32") for count in (self.last_skipped, self._iterations))
            self.last_skipped.assign(ops.where(finite, before, now))

    def _accumulated(self, gradients, variables, finite):
        """The mean gradients so far, and whether this step is the last of those that are summed."""
        steps = self.gradient_accumulation_steps
        taken = self._iterations - self.skipped if self.skip_non_finite else self._iterations
        is_last = ops.equal((taken + 1) % steps, 0)
        sums = [self._accumulated_gradients[self._get_variable_index(variable)] for variable in variables]
        totals = [gradient + total for gradient, total in zip(gradients, sums, strict=True)]
        for stored, total in zip(sums, totals, strict=True):
            value = ops.where(is_last, ops.zeros_like(total), total)
            stored.assign(value if finite is None else ops.where(finite, value, ops.convert_to_tensor(stored)))
        return [total / steps for total in totals], is_last

    def _move_averages(self):
        moved = ops.cast(self.iterations, "float32")
        share = 1.0 - ops.minimum(moved / (moved + 9.0), self.ema)
        for variable, average in zip(self._trainable_variables, self.averages, strict=True):
            self.assign(average, average + (variable - average) * ops.cast(share, average.dtype))

    def assign(self, variable, value):
        if self._moves is not None:
            value = ops.where(self._moves, value, ops.convert_to_tensor(variable))
        super().assign(variable, value)

    def assign_sub(self, variable, value):
        if self._moves is None:
            super().assign_sub(variable, value)
        else:
            self.assign(variable, variable - value)

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
        facts = {"weight_decay": self.decay, "groups": groups, "ema": self.ema, "skip_non_finite": self.skip_non_finite}
        return {**super().get_config(), **facts}


def unwrapped(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer itself, where Keras has wrapped it to scale the loss for float16."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _squared_norm(gradients):
    return ops.sum(ops.stack([ops.sum(ops.square(gradient)) for gradient in gradients]))


@keras.saving.register_keras_serializable("mtl_keras")
class SGD(_TorchOptimizer, keras.optimizers.SGD):
    """`torch.optim.SGD`: m ← momentum·m + g, then w ← w − learning_rate·m.

    Args as in `keras.optimizers.SGD`, but `momentum` is 0.9 by default, `weight_decay` is coupled, `nesterov` is not
    supported, and `groups` maps the beginning of parameters' paths to a `Group`, of which the first that fits holds.
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

    Args as in `keras.optimizers.Adam`, all but the first by keyword, but for the learning rate, 1e-4 by default,
    `epsilon`, 1e-8, the coupled `weight_decay`, and `groups`, which maps the beginning of parameters' paths to a
    `Group`, of which the first that fits holds.
    """

    decoupled = False

    def __init__(self, learning_rate=1e-4, *, epsilon: float = 1e-8, **kwargs):
        if kwargs.get("amsgrad"):
            raise ValueError("amsgrad: not supported by mtl_keras.optimizers.Adam; use keras.optimizers.Adam")
        super().__init__(learning_rate, epsilon=epsilon, **kwargs)

    def _backend_update_step(self, gradients, variables, learning_rate):
        """A group at a time by the backend's kernel, where it has one; the others a variable at a time."""
        left = list(zip(gradients, variables, strict=True))
        for group in sorted(set(self._group_of)) if self._moves is None else ():
            members = [pair for pair in left if self._group(pair[1]) == group]
            if members and not group.frozen_steps and self._step_at_once(members, learning_rate):
                left = [pair for pair in left if self._group(pair[1]) != group]
        if left:
            super()._backend_update_step(*map(list, zip(*left, strict=True)), learning_rate)

    def _step_at_once(self, members, learning_rate) -> bool:
        """A step by the backend's kernel, of the gradients and variables of one group that is not frozen."""
        gradients, variables = zip(*members, strict=True)
        indices = [self._get_variable_index(variable) for variable in variables]
        return backend.adam_step(
            variables,
            gradients,
            [(self._momentums[index], self._velocities[index]) for index in indices],
            rate=self._rate(learning_rate, variables[0]),
            step=ops.cast(self.iterations + 1, "float32"),
            betas=(self.beta_1, self.beta_2),
            epsilon=self.epsilon,
            decay=self.decay,
            decoupled=self.decoupled,
        )

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        mean, square = self._momentums[index], self._velocities[index]
        gradient = self._decayed(gradient, variable)
        self.assign(mean, mean + (gradient - mean) * (1 - self.beta_1))
        self.assign(square, square + (ops.square(gradient) - square) * (1 - self.beta_2))
        # The bias correction counts the steps that moved the moments, as PyTorch counts them for each parameter.
        moved = ops.maximum(self.iterations + 1 - self._group(variable).frozen_steps, 1)
        step = ops.cast(moved, "float64" if variable.dtype == "float64" else "float32")
        corrections = (_bias_correction(beta, step) for beta in (self.beta_1, self.beta_2))
        mean_correction, square_correction = (ops.cast(correction, variable.dtype) for correction in corrections)
        rate = self._rate(learning_rate, variable) / mean_correction
        self.assign_sub(variable, rate * mean / (ops.sqrt(square / square_correction) + self.epsilon))


@keras.saving.register_keras_serializable("mtl_keras")
class AdamW(Adam):
    """`torch.optim.AdamW`: as `Adam`, but weight decay is decoupled: w ← w − learning_rate·weight_decay·w.

    `weight_decay` is 0.01 by default, as PyTorch's.
    """

    decoupled = True

    def __init__(self, learning_rate=1e-4, *, weight_decay: float = 0.01, **kwargs):
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)

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
        steps_per_epoch: training steps an epoch, however many of them are accumulated.
        power: 0.9 in the framework behind the report.
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
