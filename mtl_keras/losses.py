"""Losses over valid pixels.

Invalid pixels are masked before anything is computed of them, so that neither the loss nor its gradient is ever NaN.
Both losses work in any `compile`; a batch without a single valid pixel costs nothing.
"""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

TASKS = ("semseg", "depth")
LABELS = (
    """{"semseg": (batch, height, width) ids, 255 = ignore, "depth": (batch, height, width, 1) metres, 0 = invalid}"""
)


def check_labels(labels: Any, predictions: Mapping[str, Any]) -> None:
    """Raises `ValueError` for labels of a batch that are not those of both tasks, a label for each predicted pixel."""
    if not isinstance(labels, Mapping):
        raise ValueError(f"labels: a {type(labels).__name__} is no dict; give {LABELS}")
    for task in TASKS:
        if labels.get(task) is None:
            raise ValueError(f"labels: {task!r} is missing; give {LABELS}, that value everywhere where there is none")
        if getattr(labels[task].shape, "rank", 0) is None:
            raise ValueError(f"labels: {task!r} had another number of axes before; give {LABELS}, in every call")
        shape, size = tuple(labels[task].shape), tuple(predictions[task].shape[1:3])
        sides = zip(shape[1:3], size, strict=False)
        fits = len(shape) in (3, 4) and shape[3:] in ((), (1,), (None,))
        if not fits or any(None not in pair and pair[0] != pair[1] for pair in sides):
            raise ValueError(f"labels: {task!r} is {shape} for images of {size[0]}×{size[1]} px; give {LABELS}")


def check_alike(who: str, labels: tuple[int | None, ...], predictions: tuple[int | None, ...]) -> None:
    """Raises `ValueError` unless there is one prediction for each label: their shapes would be broadcast."""
    known = (pair for pair in zip(labels, predictions, strict=False) if None not in pair)
    if len(labels) != len(predictions) or any(label != predicted for label, predicted in known):
        raise ValueError(f"{who}: labels {tuple(labels)} and predictions {tuple(predictions)} differ in shape")


def valid_labels(labels, num_classes: int):
    """Where a label is the id of a class, and the labels with 0 where it is not (ignore, 255, among them).

    Labels are (batch, height, width), and so are both results; (batch, height, width, 1) will do.
    """
    labels = ops.convert_to_tensor(labels)
    if keras.backend.is_float_dtype(labels.dtype):
        # Backends cast NaN to different integers, and what lies between −1 and 0 to a class.
        labels = ops.where(ops.logical_and(labels >= 0, labels < num_classes), labels, -1.0)
    labels = ops.cast(labels, "int32")
    if len(labels.shape) == 4:
        labels = ops.squeeze(labels, -1)
    valid = ops.logical_and(labels >= 0, labels < num_classes)
    return valid, ops.where(valid, labels, 0)


def valid_depth(depth):
    """Where `depth` (metres) is measured, and the depth with 1 m where it is not (0, negative or NaN).

    Both results are (batch, height, width, 1), as depth is; (batch, height, width) will do.
    """
    depth = with_channel(ops.cast(depth, "float32"))
    valid = ops.logical_and(depth > 0, ops.isfinite(depth))
    return valid, ops.where(valid, depth, 1.0)


def with_channel(depth):
    """(batch, height, width, 1) of depth that may lack the last axis: without a label's, Keras drops a prediction's."""
    return ops.expand_dims(depth, -1) if len(depth.shape) == 3 else depth


class _LossOfBatch(keras.losses.Loss):
    """A loss of a whole batch, which weights of samples could only scale."""

    def __call__(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            raise ValueError(
                f"{self.name}: takes no sample_weight; mark what must not count as ignore (255, or depth 0)"
            )
        return super().__call__(y_true, y_pred)


@keras.saving.register_keras_serializable("mtl_keras")
class SegmentationLoss(_LossOfBatch):
    """Mean cross entropy over the valid pixels of a batch (original framework's definition).

    Call arguments: labels (batch, height, width), integers, where what is no class, such as 255, is ignored; logits
    (batch, height, width, classes). Returns a scalar.
    """

    def __init__(self, name: str = "semseg_loss", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        valid, labels = valid_labels(y_true, y_pred.shape[-1])
        check_alike(self.name, labels.shape, y_pred.shape[:-1])
        # A list of pixels: PyTorch would copy a map of them to channels first and its gradient back again.
        pixels = ops.reshape(y_pred, (-1, y_pred.shape[-1]))
        losses = ops.sparse_categorical_crossentropy(ops.reshape(labels, (-1,)), pixels, from_logits=True)
        valid = ops.cast(ops.reshape(valid, (-1,)), losses.dtype)
        return ops.sum(losses * valid) / ops.maximum(ops.sum(valid), 1.0)


@keras.saving.register_keras_serializable("mtl_keras")
class DepthLoss(_LossOfBatch):
    """Mean squared error of normalised depth (original framework's definition).

    The mean is taken over each image's valid pixels and then over the images that have any.

    Args:
        std: standard deviation in metres that depth is normalised by; the mean cancels out.

    Call arguments: true and predicted depth, (batch, height, width, 1) in metres, where a true 0 is invalid. Returns
    a scalar.
    """

    def __init__(self, std: float = 29.1264, name: str = "depth_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.std = std

    def call(self, y_true, y_pred):
        valid, depth = valid_depth(y_true)
        y_pred = with_channel(y_pred)
        check_alike(self.name, depth.shape, y_pred.shape)
        errors = ops.where(valid, (y_pred - ops.cast(depth, y_pred.dtype)) / self.std, 0.0)
        pixels = ops.sum(ops.cast(valid, errors.dtype), axis=(1, 2, 3))
        means = ops.sum(ops.square(errors), axis=(1, 2, 3)) / ops.maximum(pixels, 1.0)
        images = ops.sum(ops.cast(pixels > 0, errors.dtype))
        return ops.sum(means) / ops.maximum(images, 1.0)

    def get_config(self):
        return {**super().get_config(), "std": self.std}
