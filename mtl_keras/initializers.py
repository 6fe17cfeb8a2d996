"""PyTorch's initial weights, drawn by NumPy.

One seed (`keras.utils.set_random_seed`) gives the same weights on every backend, and no backend compiles a random
function for every shape of a kernel, which took JAX seconds.
"""

import math
import random

import keras
import numpy as np
from keras import ops


def zeros(shape, dtype=None):
    """Zeros from the host, for which JAX compiles nothing."""
    return ops.convert_to_tensor(np.zeros(shape, "float32"), dtype=dtype or "float32")


class _Drawn(keras.initializers.Initializer):
    """Draws with a NumPy generator that is seeded from Python's, at every call anew."""

    def __call__(self, shape, dtype=None):
        generator = np.random.default_rng(random.getrandbits(64))
        return ops.convert_to_tensor(self.draw(generator, shape).astype("float32"), dtype=dtype or "float32")

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        raise NotImplementedError


@keras.saving.register_keras_serializable("mtl_keras")
class HeNormalFanOut(_Drawn):
    """Normal with variance 2/fan-out, as torchvision initialises a ResNet's convolutions (He et al., 2015)."""

    def draw(self, generator, shape):
        fan_out = math.prod(shape[:-2]) * shape[-1]
        return generator.normal(0.0, math.sqrt(2.0 / fan_out), shape)


@keras.saving.register_keras_serializable("mtl_keras")
class TorchUniform(_Drawn):
    """Uniform in ±1/sqrt(fan-in), PyTorch's default for a convolution's kernel and bias.

    Args:
        fan_in: of the convolution; a bias cannot tell it from its own shape.
    """

    def __init__(self, fan_in: int):
        self.fan_in = fan_in

    def draw(self, generator, shape):
        bound = self.fan_in**-0.5
        return generator.uniform(-bound, bound, shape)

    def get_config(self):
        return {"fan_in": self.fan_in}
