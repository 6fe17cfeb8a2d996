"""The computation that every export holds."""

import dataclasses
from collections.abc import Callable

from keras import ops

from mtl_keras.errors import UserError
from mtl_keras.model import MultiTaskModel

PRECISIONS = ("float32", "float16", "int8")


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """What an exported graph is like.

    Args:
        size: fixed height and width of the images, or None where they are free.
        argmax: whether `semseg` is class ids, (batch, height, width) int32, in the place of logits.
        precision: of weights and computation; int8 is for `litert` and `onnx`, and float16 for these and `openvino`.
        encoded: whether a SavedModel gets a second signature, `serving_bytes`, that takes JPEG and PNG files.

    Raises:
        UserError: a value that is out of its range.
    """

    size: tuple[int, int] | None = None
    argmax: bool = False
    precision: str = "float32"
    encoded: bool = True

    def __post_init__(self):
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise UserError(f"size: {self.size} is no height and width; give two numbers, such as 512,1024")
        if self.precision not in PRECISIONS:
            raise UserError(f"precision: '{self.precision}' is unknown; use one of {', '.join(PRECISIONS)}")


def serving_function(model: MultiTaskModel, *, argmax: bool = False) -> Callable:
    """What an export runs: pads inside to the output stride, predicts, crops back and clamps depth.

    Args:
        model: the model.
        argmax: whether `semseg` is class ids, (batch, height, width) int32, in the place of logits.

    Returns:
        A function from `image`, (batch, height, width, 3), RGB 0–255 of any dtype, to a dict with `semseg` and
        `depth`, (batch, height, width, 1) metres within the dataset's range. Initial predictions are left out.
    """
    stride = model.output_stride

    def serve(image):
        height, width = ops.shape(image)[1], ops.shape(image)[2]
        # No remainder of a negative number: ONNX and TensorFlow disagree about its sign.
        border = [(stride - side % stride) % stride for side in (height, width)]
        mean = ops.convert_to_tensor(model.padding_color, dtype="float32")
        # Padding with zeros around the colour is padding with the colour.
        image = ops.cast(image, "float32") - mean
        image = ops.pad(image, [[0, 0], [0, border[0]], [0, border[1]], [0, 0]]) + mean
        predictions = model(image, training=False)
        semseg = predictions["semseg"][:, :height, :width]
        depth = predictions["depth"][:, :height, :width]
        if argmax:
            # `ops.argmax` looks at the sign of zeros by bit operations that LiteRT does not have.
            semseg = ops.cast(ops.top_k(semseg, k=1)[1][..., 0], "int32")
        return {"semseg": semseg, "depth": ops.clip(depth, *model.spec.depth_range)}

    return serve
