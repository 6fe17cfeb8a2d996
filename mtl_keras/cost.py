"""What a model costs: its parameters, and the multiply-adds of an image."""

import contextlib
import math
from collections.abc import Iterator

import keras
from keras import layers

from mtl_keras.layers import Conv2D
from mtl_keras.model import MultiTaskModel


def count_parameters(model: keras.Model) -> int:
    """The number of trainable parameters."""
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def multiply_adds(model: MultiTaskModel, height: int = 256, width: int = 256, *, computed: bool = False) -> int:
    """Multiply-adds of all convolutions and dense layers for one image; nothing is computed.

    Normalisation, activations and upsampling are left out, as is usual: they are below a hundredth of the whole.

    Args:
        model: the model.
        height: of the image; a multiple of the output stride.
        width: likewise.
        computed: count what is carried out instead of what the network is by definition; our `Conv2D` and
            `UpsamplingConv2D` come to the same result with less.
    """
    counted: list[int] = []
    with _counting(model, counted, computed):
        model.compute_output_spec(keras.KerasTensor((1, height, width, 3), "float32"))
    return sum(counted)


@contextlib.contextmanager
def _counting(model: keras.Model, counted: list[int], computed: bool) -> Iterator[None]:
    """While it lasts, every convolution that is told its input's shape adds its cost."""
    layers_with_kernel = [layer for layer in model._flatten_layers() if isinstance(layer, _COUNTED)]
    for layer in layers_with_kernel:
        layer.__dict__["compute_output_spec"] = _with_cost(layer, layer.compute_output_spec, counted, computed)
    try:
        yield
    finally:
        for layer in layers_with_kernel:
            del layer.__dict__["compute_output_spec"]


_COUNTED = (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)


def _with_cost(layer, compute_output_spec, counted: list[int], computed: bool):
    def told(*args, **kwargs):
        output = compute_output_spec(*args, **kwargs)
        if computed and isinstance(layer, Conv2D):
            counted.append(layer.multiply_adds(*output.shape[1:3]))
        else:
            # Each weight of a kernel is used once at every place of the output.
            counted.append(math.prod(output.shape[1:-1]) * math.prod(layer.kernel.shape))
        return output

    return told
