"""The trace of a few steps."""

import gzip
import json

import keras
import pytest

from mtl_keras.profiling import Trace
from tests import harness


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="counts the calls that JAX traces")
@pytest.mark.parametrize(("batch_size", "steps", "traced"), [(2, 3, 3), (2, 100, 5), (10, 3, 1)])
def test_as_many_steps_are_traced_as_were_asked_for_after_the_first_ones(tmp_path, batch_size, steps, traced):
    """Of ten steps an epoch five warm up, of two one; a trace ends with the first epoch, and no other follows."""
    model = harness.tiny_model()
    model.compile("adam")
    x, y = harness.images(20, 32, 32), harness.labels(20, 32, 32, num_classes=4)
    options = {"batch_size": batch_size, "epochs": 2, "verbose": 0, "validation_data": (x, y)}
    model.fit(x, y, **options, callbacks=[Trace(tmp_path, steps)])
    # Where TensorBoard's profiler looks.
    (folder,) = (tmp_path / "plugins" / "profile").iterdir()
    assert list(folder.glob("*.xplane.pb"))
    (trace,) = folder.glob("*.trace.json.gz")
    with gzip.open(trace) as file:
        names = [event.get("name") for event in json.load(file)["traceEvents"]]
    # A call is two events, one within the other.
    assert names.count("PjitFunction(train_step)") == 2 * traced
    assert "PjitFunction(test_step)" not in names


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="of two recordings at once only JAX complains")
def test_where_training_fails_within_a_recording_another_one_can_begin(tmp_path):
    class Fails(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 6:
                raise ZeroDivisionError

    model = harness.tiny_model()
    model.compile("adam")
    x, y = harness.images(20, 32, 32), harness.labels(20, 32, 32, num_classes=4)
    for again in ("first", "second"):
        trace = Trace(tmp_path / again, steps=4)
        with pytest.raises(ZeroDivisionError):
            model.fit(x, y, batch_size=2, verbose=0, callbacks=[trace, Fails()])
        trace.close()
        trace.close()
        assert list((tmp_path / again).rglob("*.xplane.pb"))
