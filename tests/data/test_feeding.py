"""A loader's batches on their way into `fit`, `evaluate` and `predict`; `test_backends.py` runs it on every backend."""

import keras
import numpy as np
import pytest
from PIL import Image

from mtl_keras import data
from mtl_keras.backend import feed, feed_images
from mtl_keras.data import EvalView, Loader, TrainView
from mtl_keras.evaluation import evaluate
from tests import harness
from tests.data.conftest import write_miniscapes

CROP = TrainView((32, 32), horizontal_flip=True)
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"


def one_pass(dataset, batch_size):
    return Loader(dataset, batch_size, EvalView(), shuffle=False, drop_remainder=False)


def model():
    model = harness.tiny_model(num_classes=19)
    harness.randomize(model)
    model.compile("sgd")
    return model


@pytest.fixture
def two_sizes(tmp_path):
    """Three images, of which the last is of another size."""
    write_miniscapes(tmp_path / "source", {"train": 1, "val": 3, "test": 1})
    for file in (tmp_path / "source" / "val").glob("*/2.*"):
        Image.open(file).resize((64, 48), Image.Resampling.NEAREST).save(file)
    return data.load("miniscapes", "val", data_dir=tmp_path / "source", prepared_dir=tmp_path / "prepared")


def test_a_loader_tells_the_size_that_all_images_have(prepared, two_sizes):
    assert one_pass(prepared["val"], 2).image_size == (64, 96)
    assert Loader(prepared["train"], 4, CROP).image_size == (32, 32)
    assert one_pass(two_sizes, 1).image_size == (None, None)


def test_an_evaluation_is_of_every_batch_once_each_time(prepared):
    with one_pass(prepared["val"], 2) as loader:
        batches = [loader[step] for step in range(len(loader))]
        images = np.concatenate([image for image, _ in batches])
        labels = {task: np.concatenate([labels[task] for _, labels in batches]) for task in ("semseg", "depth")}
        network = model()
        expected = network.evaluate(images, labels, batch_size=2, verbose=0, return_dict=True)
        for _ in range(2):
            found = network.evaluate(loader, verbose=0, return_dict=True)
            assert found == pytest.approx(expected, rel=1e-5)
        fitted = network.fit(loader, validation_data=loader, epochs=2, shuffle=False, verbose=0).history
        after = network.evaluate(images, labels, batch_size=2, verbose=0, return_dict=True)
        assert fitted["val_loss"][1] == pytest.approx(after["loss"], rel=1e-5)
        predicted, whole = network.predict(loader, verbose=0), network.predict(images, batch_size=2, verbose=0)
        for task in ("semseg", "depth"):
            np.testing.assert_allclose(predicted[task], whole[task], rtol=1e-5, atol=1e-4)


def test_images_of_several_sizes_are_evaluated_one_by_one(two_sizes):
    with one_pass(two_sizes, 1) as loader:
        assert [loader[step][0].shape[1:3] for step in range(3)] == [(64, 96), (64, 96), (32, 64)]
        network = model()
        found = network.evaluate(loader, verbose=0, return_dict=True)
        expected = evaluate(network, (loader[step] for step in range(3))).results()
    for name in ("miou", "silog", "grader"):
        assert found[name] == pytest.approx(expected[name], rel=1e-4)


def test_what_is_no_loader_is_left_as_it_is():
    class Own(keras.utils.PyDataset):
        image_size = 256

    for given in (None, np.zeros((2, 8, 8, 3)), ("images", "labels"), iter([1]), Own()):
        assert feed(given) is given
        assert isinstance(given, np.ndarray) or feed_images(given, 2) is given


@pytest.mark.skipif(ON_TENSORFLOW, reason="the backend that reads tf.data")
def test_the_other_backends_read_the_loader_itself(prepared):
    loader = one_pass(prepared["val"], 2)
    assert feed(loader) is loader
    image, _ = loader[0]
    assert feed_images(image, 2) is image


@pytest.mark.skipif(not ON_TENSORFLOW, reason="tf.data is TensorFlow's")
def test_tensorflow_reads_a_dataset_that_no_thread_tunes(prepared):
    with Loader(prepared["train"], 4, CROP, seed=7) as loader, one_pass(prepared["val"], 2) as evaluation:
        endless, finite = feed(loader), feed(evaluation)
        assert (int(endless.cardinality()), int(finite.cardinality())) == (-1, 3)
        for dataset, source, steps in ((endless, loader, 7), (finite, evaluation, 3)):
            assert dataset.options().autotune.enabled is False
            batches = list(dataset.take(7).as_numpy_iterator())
            assert len(batches) == steps
            for batch, expected in zip(batches, [source[step] for step in range(steps)], strict=True):
                keras.tree.map_structure(np.testing.assert_array_equal, batch, expected)
        images, _ = evaluation[0]
        halves = feed_images(images, 1)
        assert halves.options().autotune.enabled is False and len(halves) == 2
        np.testing.assert_array_equal(np.concatenate(list(halves.as_numpy_iterator())), images)
        assert endless.element_spec[0].shape.as_list() == [None, 32, 32, 3]
