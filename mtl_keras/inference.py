"""Prediction at an image's own size: padding, test-time augmentation and sliding windows."""

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops
from PIL import Image, ImageOps

from mtl_keras.data.images import BadFile, is_size, open_image, read_file, require_mode
from mtl_keras.errors import UserError

if TYPE_CHECKING:
    from mtl_keras.model import MultiTaskModel

_MODES = ("RGB", "RGBA", "L", "LA", "P", "PA", "1", "CMYK")
# Keeps a weight from vanishing where a window's edge is the only one that saw a pixel.
_LEAST_WEIGHT = 1e-3


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of one image, at the image's own size.

    Args:
        semseg: class ids, (height, width) uint8.
        depth: metres within the dataset's range, (height, width) float32.
        confidence: probability of the class in `semseg`, (height, width) float32 in 0–1; None unless asked for.
        logits: logarithms of class probabilities up to a constant, (height, width, classes) float32; None unless
            asked for. The network's own where it saw the image once, and of the averaged probabilities where it saw
            it several times.
    """

    semseg: np.ndarray
    depth: np.ndarray
    confidence: np.ndarray | None = None
    logits: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Options:
    """How images are predicted.

    Args:
        batch_size: how many images of one size go through the network at once.
        flip: average with the prediction of the mirrored image.
        scales: sizes, relative to the image's own, whose predictions are averaged: class probabilities by their mean,
            depth by its geometric mean. Metres are multiplied by the scale, for what looks twice as large is half as
            far.
        window: height and width in pixels of a sliding window, for images that do not fit into memory; None predicts
            the whole image at once. Rounded up to the output stride; an image that is smaller is not cut.
        overlap: share of a window that the next one covers again, and over which the two are blended, 0 to 0.9.
        confidence: whether predictions carry the probability of their class.
        logits: whether predictions carry logits.

    Raises:
        UserError: a value that is out of its range.
    """

    batch_size: int = 1
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    window: tuple[int, int] | None = None
    overlap: float = 0.25
    confidence: bool = False
    logits: bool = False

    def __post_init__(self):
        if not isinstance(self.batch_size, int | np.integer) or self.batch_size < 1:
            raise UserError(f"batch_size: {self.batch_size} cannot be used; give a whole number, 1 or more")
        numbers = isinstance(self.scales, tuple | list) and all(isinstance(scale, int | float) for scale in self.scales)
        if not (numbers and self.scales and all(0.1 <= scale <= 10 for scale in self.scales)):
            raise UserError(f"scales: {self.scales} cannot be used; give numbers from 0.1 to 10, such as 0.75,1.0,1.25")
        if self.window is not None and not is_size(self.window):
            raise UserError(f"window: {self.window} is no height and width; give two numbers, such as 512,1024")
        if not 0 <= self.overlap <= 0.9:
            raise UserError(f"overlap: {self.overlap} is out of range; give a share of the window from 0 to 0.9")


def predict_images(
    model: "MultiTaskModel", images: Sequence | np.ndarray | Image.Image | str | os.PathLike, options: Options
) -> Prediction | list[Prediction]:
    """See `MultiTaskModel.predict_images`."""
    if isinstance(images, Iterable) and not isinstance(images, str) and getattr(images, "ndim", 0) not in (2, 3):
        return list(iterate_predictions(model, images, options))
    return next(iterate_predictions(model, [images], options))


def iterate_predictions(model: "MultiTaskModel", images: Iterable, options: Options) -> Iterator[Prediction]:
    """Predicts images one after the other, so that no more than a batch of them is in memory.

    Args:
        model: the model.
        images: arrays (height, width, 3), RGB 0–255, or paths; sizes may differ.
        options: how.

    Raises:
        UserError: for a file that is no image, or an array of another shape.
    """
    arrays = (_as_array(image) for image in images)
    for _, same_size in itertools.groupby(arrays, key=lambda image: image.shape):
        while batch := list(itertools.islice(same_size, options.batch_size)):
            yield from predict_batch(model, np.stack(batch), options)


def predict_batch(model: "MultiTaskModel", images: np.ndarray, options: Options) -> list[Prediction]:
    """Predicts images of one size: (batch, height, width, 3), RGB 0–255."""
    views = [(scale, flip) for scale in options.scales for flip in ((False, True) if options.flip else (False,))]
    if len(views) == 1 and views[0] == (1.0, False) and options.window is None:
        logits, depth = _predict_padded(model, images)
        confidence = softmax(logits).max(axis=-1) if options.confidence else None
    else:
        probabilities, depth = _average(model, images, views, options)
        logits = np.log(np.maximum(probabilities, 1e-30))
        confidence = probabilities.max(axis=-1) if options.confidence else None
    semseg = logits.argmax(axis=-1).astype("uint8")
    depth = np.clip(depth, *model.spec.depth_range)
    return [
        Prediction(
            semseg[i],
            depth[i],
            None if confidence is None else confidence[i],
            logits[i] if options.logits else None,
        )
        for i in range(len(images))
    ]


def _average(model, images: np.ndarray, views: list[tuple[float, bool]], options: Options):
    """Mean class probabilities and geometric mean depth over scaled and mirrored views."""
    size = images.shape[1:3]
    total, log_depth = 0.0, 0.0
    for scale, flip in views:
        view = images if scale == 1 else _resize(images.astype("float32"), _scaled(size, scale), antialias=scale < 1)
        view = view[:, :, ::-1] if flip else view
        probabilities, depth = _predict_windows(model, view, options)
        if flip:
            probabilities, depth = probabilities[:, :, ::-1], depth[:, :, ::-1]
        if scale != 1:
            probabilities, depth = _resize(probabilities, size), _resize(depth[..., None], size)[..., 0] * scale
        total = total + probabilities / len(views)
        log_depth = log_depth + np.log(depth) / len(views)
    return total, np.exp(log_depth).astype("float32")


def _predict_windows(model, images: np.ndarray, options: Options):
    """Class probabilities and clamped depth of images, seen whole or through overlapping windows."""
    if options.window is None:
        logits, depth = _predict_padded(model, images)
        return softmax(logits), depth
    batch, height, width, _ = images.shape
    window = [side + padding_for(side, model.output_stride) for side in options.window]
    probabilities = np.zeros((batch, height, width, model.spec.num_classes), "float32")
    depth, weights = np.zeros((batch, height, width), "float32"), np.zeros((height, width), "float32")
    for (top, bottom), rows in _windows(height, window[0], options.overlap):
        for (left, right), columns in _windows(width, window[1], options.overlap):
            place, weight = np.s_[:, top:bottom, left:right], rows[:, None] * columns
            logits, metres = _predict_padded(model, images[place])
            probabilities[place] += weight[..., None] * softmax(logits)
            depth[place] += weight * metres
            weights[top:bottom, left:right] += weight
    probabilities /= weights[..., None]
    return probabilities, depth / weights


def _windows(side: int, window: int, overlap: float) -> list[tuple[tuple[int, int], np.ndarray]]:
    """The windows along one axis, (begin, end) and weights that fall off towards edges within the image."""
    window = min(side, window)
    steps = int(np.ceil((side - window) / max(1.0, window * (1 - overlap))))
    starts = np.rint(np.linspace(0, side - window, steps + 1)).astype(int)
    centres, found = np.arange(window) + 0.5, []
    for index, start in enumerate(starts):
        weight = np.ones(window, "float32")
        if index > 0:
            weight = np.minimum(weight, centres / max(starts[index - 1] + window - start, 1))
        if index < steps:
            weight = np.minimum(weight, centres[::-1] / max(start + window - starts[index + 1], 1))
        found.append(((int(start), int(start + window)), np.maximum(weight, _LEAST_WEIGHT).astype("float32")))
    return found


def _predict_padded(model, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Final logits and metres within the range, (batch, height, width[, classes]): padded and cropped back."""
    height, width = images.shape[1:3]
    padded = pad_to_multiple(images, model.output_stride, model.padding_color)
    predictions = model.predict_on_batch(padded)
    return predictions["semseg"][:, :height, :width], predictions["depth"][:, :height, :width, 0]


def padding_for(size: int, multiple: int) -> int:
    """How many pixels are missing to the next multiple."""
    return -size % multiple


def pad_to_multiple(images: np.ndarray, multiple: int, color) -> np.ndarray:
    """Pads images at the bottom and the right with one colour: (batch, height, width, 3) float32."""
    _, height, width, _ = images.shape
    color = np.asarray(color, "float32")
    border = ((0, 0), (0, padding_for(height, multiple)), (0, padding_for(width, multiple)), (0, 0))
    padded = np.empty([side + sum(more) for side, more in zip(images.shape, border, strict=True)], "float32")
    padded[...] = color
    padded[:, :height, :width] = images
    return padded


def softmax(logits: np.ndarray) -> np.ndarray:
    """Class probabilities over the last axis, float32."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Reads a PNG or JPEG file; see `decode_image`.

    Raises:
        BadFile: it cannot be read, or is no image that can be used.
    """
    return decode_image(read_file(path), path)


def decode_image(data: bytes, name: object) -> np.ndarray:
    """A PNG or JPEG as a person sees it: turned as its EXIF tag says, grey and palette as RGB, opaque.

    Args:
        data: the file's bytes.
        name: what to call it in an error.

    Returns:
        RGB, (height, width, 3) uint8.

    Raises:
        BadFile: it is no PNG or JPEG, is damaged, or has more than 8 bits a channel.
    """
    image = open_image(data, name)
    with contextlib.suppress(Exception):  # a broken tag raises what its bytes lead to, and turns nothing
        image = ImageOps.exif_transpose(image)
    return _as_rgb(image, name)


def _as_rgb(image: Image.Image, name: object) -> np.ndarray:
    require_mode(image, _MODES, "8 bits a channel", name)
    # A palette with transparent colours goes by RGBA, as Pillow asks.
    return np.asarray((image.convert("RGBA") if "transparency" in image.info else image).convert("RGB"))


def _as_array(image) -> np.ndarray:
    """A path's or Pillow's image, or the array itself if it is one."""
    try:
        if isinstance(image, str | os.PathLike):
            return read_image(image)
        if isinstance(image, Image.Image):
            return _as_rgb(image, "a Pillow image")
    except BadFile as error:
        raise UserError(f"{error}; give a PNG or JPEG image") from None
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3 or not all(image.shape):
        raise UserError(f"an image has shape {image.shape}; give RGB arrays (height, width, 3) with values 0–255")
    if image.dtype != np.uint8 and not (image.dtype.kind in "fiub" and image.min() >= 0 and image.max() <= 255):
        raise UserError(f"an image of {image.dtype} has values that are not within 0 and 255; give RGB 0–255")
    return image


def _scaled(size: Sequence[int], scale: float) -> tuple[int, int]:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _resize(maps: np.ndarray, size: Sequence[int], antialias: bool = False) -> np.ndarray:
    """Bilinear: (batch, height, width, channels) float32 to another height and width."""
    resized = ops.image.resize(maps, size, interpolation="bilinear", antialias=antialias, data_format="channels_last")
    return keras.ops.convert_to_numpy(resized)
