"""What a model costs: its parameters, and the multiply-adds of an image."""

import contextlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator

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

    Raises:
        ValueError: a layer with a kernel is of another kind, or is called by another layer and not by the model.
    """
    counted: Counter[int] = Counter()
    with_kernel = [layer for layer in model._flatten_layers() if _has_kernel(layer)]
    _refuse(layer for layer in with_kernel if not isinstance(layer, _COUNTED))
    images = keras.tree.map_structure(
        lambda given: keras.KerasTensor((1, height, width, given.shape[-1]), given.dtype), model.input
    )
    with _counting(with_kernel, counted, computed):
        model.compute_output_spec(images)
    _refuse(layer for layer in with_kernel if id(layer) not in counted)
    return counted.total()


@contextlib.contextmanager
def _counting(with_kernel: list[keras.Layer], counted: Counter[int], computed: bool) -> Iterator[None]:
    """While it lasts, every convolution that is told its input's shape adds its cost."""
    for layer in with_kernel:
        layer.__dict__["compute_output_spec"] = _with_cost(layer, layer.compute_output_spec, counted, computed)
    try:
        yield
    finally:
        for layer in with_kernel:
            del layer.__dict__["compute_output_spec"]


_COUNTED = (layers.Conv2D, layers.Conv2DTranspose, layers.DepthwiseConv2D, layers.SeparableConv2D, layers.Dense)


def _has_kernel(layer) -> bool:
    return any("kernel" in weight.name for weight in (*layer._trainable_variables, *layer._non_trainable_variables))


def _refuse(uncounted: Iterable[keras.Layer]) -> None:
    for layer in uncounted:
        raise ValueError(
            f"multiply_adds: the {type(layer).__name__} '{layer.path}' cannot be counted; it must be one of "
            f"{', '.join(kind.__name__ for kind in _COUNTED)}, and called by the model itself"
        )


def _with_cost(layer, compute_output_spec, counted: Counter[int], computed: bool):
    def told(*args, **kwargs):
        output = compute_output_spec(*args, **kwargs)
        counted[id(layer)] += (
            layer.multiply_adds(*output.shape[1:3])
            if computed and isinstance(layer, Conv2D)
            else _by_definition(layer, args[0], output)
        )
        return output

    return told


def _by_definition(layer, given, output) -> int:
    """Each weight of a kernel is used once at every place of the output; a transposed one's, of the input."""
    is_separable = isinstance(layer, layers.SeparableConv2D)
    kernels = [layer.depthwise_kernel, layer.pointwise_kernel] if is_separable else [layer.kernel]
    places = given if isinstance(layer, layers.Conv2DTranspose) else output
    sides = places.shape[2:] if getattr(layer, "data_format", "") == "channels_first" else places.shape[1:-1]
    return math.prod(sides) * sum(math.prod(kernel.shape) for kernel in kernels)
