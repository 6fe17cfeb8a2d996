"""The report's metrics, computed on the device: mIoU, SI-logRMSE and the grader that combines them."""

import keras
import numpy as np
from keras import ops

from mtl_keras import backend
from mtl_keras.losses import check_alike, valid_depth, valid_labels, with_channel

# Depths are clamped to at least this before a logarithm (original framework).
LEAST_DEPTH = 0.01

# A count is kept in two int32 limbs: float32 stops counting at 2^24 and int32 at 2^31, and JAX has no int64.
LIMB_BITS = 20

# Neighbouring pixels, mostly of one cell, are counted in a column each: a GPU's threads that add to one number wait for
# each other.
_COLUMNS = 32


@keras.saving.register_keras_serializable("mtl_keras")
class MeanIoU(keras.metrics.Metric):
    """Mean intersection over union in percent, over one confusion matrix that counts exactly.

    The plain mean over all classes: one that is in neither labels nor predictions counts 0, as in the framework behind
    the report; `keras.metrics.MeanIoU` and cityscapesScripts skip such a class. NaN if no pixel has a label. Exact up
    to 2^51 pixels a cell, on every backend, with up to 2^30 pixels an update.

    Args:
        num_classes: number of classes; any label outside 0 … num_classes − 1 is ignored. Such a predicted id is a
            miss of the true class, as a void one is for cityscapesScripts.
    """

    def __init__(self, num_classes: int, name: str = "miou", **kwargs):
        super().__init__(name=name, **{"dtype": "float32", **kwargs})
        if num_classes < 1:
            raise ValueError(f"MeanIoU of {num_classes} classes has no mean; give 1 or more")
        self.num_classes = num_classes
        # A column more than classes, for predicted ids that are none.
        shape = (num_classes * (num_classes + 1),)
        self.low = self.add_variable(shape, "zeros", dtype="int32", name="low")
        self.high = self.add_variable(shape, "zeros", dtype="int32", name="high")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Counts labels (batch, height, width) against logits (…, classes) or predicted ids of the labels' shape."""
        if sample_weight is not None:
            raise ValueError("MeanIoU counts pixels and takes no sample_weight; mark what must not count as ignore")
        valid, labels = valid_labels(y_true, self.num_classes)
        if len(y_pred.shape) > len(labels.shape):
            is_logits = y_pred.shape[-1] != 1 or self.num_classes == 1
            y_pred = ops.argmax(y_pred, axis=-1) if is_logits else ops.squeeze(y_pred, -1)
        check_alike(self.name, labels.shape, y_pred.shape)
        predicted = ops.cast(y_pred, "int32")
        is_class = ops.logical_and(predicted >= 0, predicted < self.num_classes)
        cells = labels * (self.num_classes + 1) + ops.where(is_class, predicted, self.num_classes)
        spare = self.num_classes * (self.num_classes + 1)
        low = self.low + _histogram(ops.where(valid, cells, spare), spare + 1)[:-1]
        self.high.assign(self.high + ops.right_shift(low, LIMB_BITS))
        self.low.assign(ops.bitwise_and(low, 2**LIMB_BITS - 1))

    def result(self):
        high, low = (ops.cast(limb.value, "float32") for limb in (self.high, self.low))
        matrix = ops.reshape(high * 2.0**LIMB_BITS + low, (self.num_classes, self.num_classes + 1))
        both = ops.diagonal(matrix)
        either = ops.sum(matrix, axis=0)[:-1] + ops.sum(matrix, axis=1) - both
        mean = 100.0 * ops.mean(both / ops.maximum(either, 1.0))
        return ops.where(ops.sum(matrix) > 0, mean, np.nan)

    def confusion_matrix(self) -> np.ndarray:
        """The exact counts, (classes, classes) int64: a row a true class, a column a predicted one.

        What was predicted as none of the classes is not among them.
        """
        high, low = (ops.convert_to_numpy(limb.value).astype(np.int64) for limb in (self.high, self.low))
        return (high * 2**LIMB_BITS + low).reshape(self.num_classes, -1)[:, :-1]

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}


def _histogram(values, bins: int):
    """How many of the values, int32 below `bins`, are 0, 1, …: (bins,) int32."""
    values = ops.reshape(values, (-1,))
    columns = ops.arange(ops.shape(values)[0], dtype="int32") % _COLUMNS
    counts = backend.count(values * _COLUMNS + columns, bins * _COLUMNS)
    return ops.sum(ops.reshape(counts, (bins, _COLUMNS)), axis=-1)


@keras.saving.register_keras_serializable("mtl_keras")
class SILogRMSE(keras.metrics.Metric):
    """Scale-invariant logarithmic error: per image 100·sqrt(mean(d²) − mean(d)²), d = ln(pred) − ln(true).

    The mean over the images that have a valid pixel; NaN if none has. Predictions are clamped to the dataset's range.
    This is KITTI's SILog (×100), from Eigen et al., https://arxiv.org/abs/1406.2283, with the square root taken per
    image.

    Args:
        depth_range: least and greatest depth in metres that a prediction is clamped to, or None.
    """

    def __init__(self, depth_range: tuple[float, float] | None = None, name: str = "silog", **kwargs):
        super().__init__(name=name, **{"dtype": "float32", **kwargs})
        if depth_range is not None and not 0 < depth_range[0] < depth_range[1]:
            raise ValueError(f"SILogRMSE cannot clamp to {depth_range}; give least and greatest depth in metres")
        self.depth_range = depth_range
        self.total = self.add_variable((), "zeros", dtype="float32", name="total")
        self.images = self.add_variable((), "zeros", dtype="float32", name="images")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds true and predicted depth, (batch, height, width, 1) in metres, where a true 0 is invalid."""
        if sample_weight is not None:
            raise ValueError("SILogRMSE takes no sample_weight; mark what must not count as invalid (0)")
        if self.depth_range is not None:
            y_pred = ops.clip(y_pred, *self.depth_range)
        valid, depth = valid_depth(y_true)
        y_pred = with_channel(y_pred)
        check_alike(self.name, depth.shape, y_pred.shape)
        pixels = ops.sum(ops.cast(valid, "float32"), axis=(1, 2, 3), keepdims=True)
        errors = _log(y_pred) - _log(depth)
        # Two passes: mean(d²) − mean(d)² loses all its digits in float32 where the mean is large. What rounding
        # takes off the mean is the deviations' mean.
        count = ops.maximum(pixels, 1.0)
        means = ops.sum(ops.where(valid, errors, 0.0), axis=(1, 2, 3), keepdims=True) / count
        deviations = ops.where(valid, errors - means, 0.0)
        rounding = ops.sum(deviations, axis=(1, 2, 3), keepdims=True) / count
        squares = ops.sum(ops.square(deviations), axis=(1, 2, 3), keepdims=True) / count
        variances = ops.maximum(squares - ops.square(rounding), 0.0)
        self.total.assign_add(100.0 * ops.sum(ops.sqrt(variances)))
        self.images.assign_add(ops.sum(ops.cast(pixels > 0, "float32")))

    def result(self):
        return ops.where(self.images > 0, self.total / ops.maximum(self.images, 1.0), np.nan)

    def get_config(self):
        return {**super().get_config(), "depth_range": self.depth_range}


def _log(depth):
    return ops.log(ops.maximum(ops.cast(depth, "float32"), LEAST_DEPTH))


def grader(miou, silog):
    """max(mIoU − 50, 0) + max(50 − SI-logRMSE, 0), both in percent (report, all tables).

    A task that nothing was measured of (NaN) adds nothing.
    """
    semseg, depth = miou - 50.0, 50.0 - silog
    return ops.where(semseg > 0, semseg, 0.0) + ops.where(depth > 0, depth, 0.0)
