"""How a loader's batches reach a backend."""

import importlib
import itertools
from typing import Any

import keras


def feed(data: Any) -> Any:
    """Data as Keras takes them best: under TensorFlow, a loader's batches as a `tf.data.Dataset` that is not tuned.

    The one that Keras would make is, by a thread that sleeps twice as long each time, up to a minute. It often misses
    that the iterator ends, and whoever ends it waits: `fit` and each validation, for as long as they had run.

    Args:
        data: what `fit`, `evaluate` or `predict` were given. A `PyDataset` that tells the `image_size` of its batches,
            (height, width), None where they differ, is a loader; all else is given back.
    """
    if keras.backend.backend() != "tensorflow" or not hasattr(data, "image_size"):
        return data
    tf = importlib.import_module("tensorflow")

    def spec(array: Any) -> Any:
        return tf.TensorSpec((None, *data.image_size, *array.shape[3:]), array.dtype)

    def batches() -> Any:
        steps = itertools.count() if data.num_batches is None else range(data.num_batches)
        return (data[step] for step in steps)

    options = tf.data.Options()
    options.autotune.enabled = False
    dataset = tf.data.Dataset.from_generator(batches, output_signature=keras.tree.map_structure(spec, data[0]))
    count = tf.data.INFINITE_CARDINALITY if data.num_batches is None else data.num_batches
    # A batch is copied while the one before is trained on.
    return dataset.apply(tf.data.experimental.assert_cardinality(count)).prefetch(1).with_options(options)
