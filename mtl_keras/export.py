"""Exported models: graphs that take raw RGB of any size and need nothing of this library to run."""

import importlib
from pathlib import Path

import keras
from keras import ops

from mtl_keras.errors import UserError
from mtl_keras.model import MultiTaskModel


def serving_function(model: MultiTaskModel, *, argmax: bool = False):
    """What an export runs: pads inside to the output stride, predicts, crops back and clamps depth.

    Args:
        model: the model.
        argmax: whether `semseg` is class ids, (batch, height, width) int32, in the place of logits.

    Returns:
        A function from `image`, (batch, height, width, 3), RGB 0–255 of any dtype, to a dict with `semseg` and
        `depth`, (batch, height, width, 1) metres within the dataset's range. Initial predictions are left out.
    """
    normalization = model.get_layer("normalization")

    def serve(image):
        height, width = ops.shape(image)[1], ops.shape(image)[2]
        mean = ops.convert_to_tensor(normalization.mean, dtype="float32")
        border = [(-side) % normalization.output_stride for side in (height, width)]
        image = ops.cast(image, "float32") - mean
        image = ops.pad(image, [[0, 0], [0, border[0]], [0, border[1]], [0, 0]]) + mean
        predictions = model(image, training=False)
        semseg = predictions["semseg"][:, :height, :width]
        depth = predictions["depth"][:, :height, :width]
        if argmax:
            semseg = ops.argmax(semseg, axis=-1)
        return {"semseg": semseg, "depth": ops.clip(depth, *model.spec.depth_range)}

    return serve


def export_saved_model(model: MultiTaskModel, folder: Path, *, argmax: bool = False) -> None:
    """Writes a TensorFlow SavedModel with free batch, height and width, and a uint8 input `image`.

    Its signature is `serving_default`. Raises `UserError` under another backend than TensorFlow: a model that was
    trained there is exported by being loaded here.
    """
    if keras.backend.backend() != "tensorflow":
        raise UserError("export: a SavedModel is made by TensorFlow; set KERAS_BACKEND=tensorflow and load the model")
    tensorflow = importlib.import_module("tensorflow")
    archive = keras.export.ExportArchive()
    archive.track(model)
    signature = tensorflow.TensorSpec((None, None, None, 3), "uint8", name="image")
    archive.add_endpoint("serve", serving_function(model, argmax=argmax), input_signature=[signature])
    archive.write_out(str(folder), verbose=False)
