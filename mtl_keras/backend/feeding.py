"""How batches reach a backend.

TensorFlow's are a `tf.data.Dataset` of ours. The one that Keras would make is tuned by a thread that sleeps twice as
long each time, up to a minute. It often misses that the iterator ends, and whoever ends it waits: `fit`, `predict` and
each validation, for up to as long as they ran.
"""

import importlib
import itertools
from typing import Any

import keras
import numpy as np


class ReadyBatches(keras.utils.PyDataset):
    """Batches that are ready before they are asked for, so that they need no threads of Keras'.

    `image_size` is their images' (height, width), each None where they differ; `num_classes` is of their labels, None
    where nobody knows.
    """

    image_size: tuple[int | None, int | None] = (None, None)
    num_classes: int | None = None


def feed(data: Any) -> Any:
    """A loader's batches as the backend takes them best.

    Args:
        data: what `fit`, `evaluate` or `predict` were given; all but `ReadyBatches` is given back.
    """
    if keras.backend.backend() != "tensorflow" or not isinstance(data, ReadyBatches):
        return data
    tf = importlib.import_module("tensorflow")

    def spec(array: Any) -> Any:
        return tf.TensorSpec((None, *data.image_size, *array.shape[3:]), array.dtype)

    def batches() -> Any:
        steps = itertools.count() if data.num_batches is None else range(data.num_batches)
        return (data[step] for step in steps)

    dataset = tf.data.Dataset.from_generator(batches, output_signature=keras.tree.map_structure(spec, data[0]))
    count = tf.data.INFINITE_CARDINALITY if data.num_batches is None else data.num_batches
    return _untuned(dataset.apply(tf.data.experimental.assert_cardinality(count)))


def feed_images(images: Any, batch_size: int) -> Any:
    """An array (count, height, width, 3) in batches, as the backend takes it best; all else is given back."""
    if keras.backend.backend() != "tensorflow" or not isinstance(images, np.ndarray):
        return images
    tf = importlib.import_module("tensorflow")
    return _untuned(tf.data.Dataset.from_tensor_slices(images).batch(batch_size))


def _untuned(dataset: Any) -> Any:
    options = importlib.import_module("tensorflow").data.Options()
    options.autotune.enabled = False
    # A batch is copied while the one before is computed with.
    return dataset.prefetch(1).with_options(options)
