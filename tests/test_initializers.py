"""Initial weights have PyTorch's distributions, and one seed gives the same ones."""

import math
import statistics
from collections.abc import Callable

import keras
import numpy as np

import zoo

# A false alarm of one kernel; there are twenty.
LEVEL = 1e-4


def is_of_distribution(values: np.ndarray, cumulative: Callable[[np.ndarray], np.ndarray]) -> bool:
    """Kolmogorov-Smirnov, with the bound of Dvoretzky, Kiefer, Wolfowitz and Massart."""
    values = np.sort(values.ravel()[:20_000].astype("float64"))
    expected, steps = cumulative(values), np.arange(len(values) + 1) / len(values)
    distance = max(np.abs(expected - steps[:-1]).max(), np.abs(expected - steps[1:]).max())
    return distance < math.sqrt(math.log(2 / LEVEL) / (2 * len(values)))


def kernels(model, part: str):
    for layer in model.get_layer(part).layers:
        if isinstance(layer, keras.layers.Conv2D):
            yield layer.name, keras.ops.convert_to_numpy(layer.kernel)


def test_encoder_is_he_normal_by_fan_out():
    model = zoo.build("joint", encoder="resnet18")
    for name, kernel in kernels(model, "encoder"):
        deviation = np.sqrt(2 / (kernel.shape[0] * kernel.shape[1] * kernel.shape[3]))
        normal = statistics.NormalDist(0, deviation)
        assert is_of_distribution(kernel, np.vectorize(normal.cdf)), name


def test_heads_are_uniform_by_fan_in_and_gates_are_zero():
    model = zoo.build("distillation", encoder="resnet18")
    parts = ("semseg_aspp", "depth_decoder", "depth_gate", "semseg_final_decoder", "semseg_predictor")
    for part in parts:
        for name, kernel in kernels(model, part):
            bound = 1 / np.sqrt(np.prod(kernel.shape[:3]))
            if name == "attention":
                assert not kernel.any()
            else:
                assert np.abs(kernel).max() <= bound
                assert is_of_distribution(kernel, lambda x, bound=bound: (x + bound) / (2 * bound)), (part, name)
    predict = model.get_layer("semseg_predictor").get_layer("predict")
    bias = keras.ops.convert_to_numpy(predict.bias)
    assert 0 < np.abs(bias).max() <= 1 / 16 and np.unique(bias).size == bias.size


def test_a_seed_gives_the_same_weights_and_another_gives_others():
    drawn = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        drawn.append(np.concatenate([k.ravel() for _, k in kernels(zoo.build("joint", encoder="resnet18"), "encoder")]))
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.any(drawn[0] == drawn[2])
