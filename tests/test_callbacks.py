"""What callbacks make of the logs."""

import math

import keras
import numpy as np
import pytest

from mtl_keras import backend
from mtl_keras.callbacks import CallbackList, Clock, MetricsTable, NearDevice, number, numbers, read_metrics
from mtl_keras.errors import UserError
from tests import harness


@pytest.mark.parametrize("value", [0.0005, -1e-30, 1.5, 3e38, 12345678.0])
def test_a_number_has_as_few_digits_as_its_precision(value):
    found = number(keras.ops.convert_to_tensor(value, "float32"))
    assert found == value and np.float32(found) == np.float32(value)


def test_a_number_of_the_host_stays_what_it_is():
    assert number(0.1 + 0.2) == 0.1 + 0.2
    assert math.isnan(number(np.float32("nan"))) and number(np.float32("inf")) == math.inf


def test_an_epochs_logs_give_the_same_numbers_on_the_device_and_as_keras_hands_them_on():
    class Kept(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.logs = numbers(logs)

    logs = {"loss": keras.ops.convert_to_tensor(0.33, "float32")}
    CallbackList([kept := Kept()]).on_epoch_end(0, logs)
    assert kept.logs == numbers(logs) == {"loss": 0.33}


def test_rows_of_a_run_that_was_resumed_are_written_as_they_were(tmp_path):
    path = tmp_path / "metrics.csv"
    MetricsTable(path, Clock(step=5)).on_epoch_end(0, {"loss": 1.0})
    first = path.read_text()
    MetricsTable(path, Clock(step=10), recorded=1).on_epoch_end(1, {"loss": 0.5})
    assert path.read_text().startswith(first) and [row["epoch"] for row in read_metrics(path)] == [1, 2]


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch takes one step a call")
def test_steps_that_cannot_be_counted_are_refused():
    model = harness.tiny_model()
    model.compile("sgd", steps_per_execution=2)
    images, labels = harness.images(4, 16, 16), harness.labels(4, 16, 16, num_classes=4)
    with pytest.raises(ValueError, match="steps_per_execution: 2 steps a call cannot be counted; compile .* with 1"):
        model.fit(images, labels, batch_size=1, verbose=0, callbacks=[Clock()])


def test_a_table_of_something_else_is_refused(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("time,volts\n1,2\n")
    with pytest.raises(UserError, match="not a table of metrics"):
        MetricsTable(path, Clock(step=5))


def test_the_host_waits_for_the_step_before_the_last_two(monkeypatch):
    """What an epoch before left under way is not waited for: Keras has read its logs."""
    waited = []
    monkeypatch.setattr(backend, "wait_for", waited.append)
    near = NearDevice()
    for epoch in range(2):
        near.on_epoch_begin(epoch)
        for step in range(4):
            near.on_train_batch_end(step, {"loss": (epoch, step)})
    assert waited == [{"loss": (epoch, step)} for epoch in range(2) for step in range(2)]


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX alone runs far ahead")
def test_waiting_for_logs_waits_for_the_device():
    big = keras.ops.ones((1500, 1500))
    logs = {"loss": keras.ops.sum(big @ big @ big)}
    backend.wait_for(logs)
    assert logs["loss"].is_ready()


def test_epochs_that_are_not_validated_leave_their_cells_empty(tmp_path):
    table = MetricsTable(tmp_path / "metrics.csv", Clock())
    for epoch, logs in enumerate(({"loss": 2.0}, {"loss": 1.0, "val_loss": 1.5}, {"loss": 0.5})):
        table.on_epoch_end(epoch, logs)
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [row.get("val_loss") for row in rows] == [None, 1.5, None] and rows[2]["loss"] == 0.5
