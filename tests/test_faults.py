"""Noticing what is not finite, and finding where it began."""

import keras
import numpy as np
import pytest

import zoo
from mtl_keras import Adam, saving
from mtl_keras.callbacks import Clock
from mtl_keras.checkpoints import StateFiles, restore_training_state, training_state
from mtl_keras.faults import LossWatch, NotFinite, all_finite, where_not_finite
from tests import harness


def data():
    return harness.images(2, 32, 32), harness.labels(2, 32, 32, num_classes=4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_among_many_is_noticed(value):
    arrays = {"whole": np.arange(6), "float": np.linspace(-3e38, 3e38, 1000, dtype="float32"), "none": np.zeros((0, 2))}
    assert all_finite(arrays)
    arrays["float"][577] = value
    assert not all_finite(arrays)


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("conv/kernel", "layer conv"),
        ("norm/beta", "layer norm"),
        ("predict/bias", "layer predict"),
    ],
)
def test_the_layer_where_it_began_is_named_and_not_those_behind(path, where):
    model = harness.tiny_model()
    assert where_not_finite(model, *data()) is None
    (variable,) = (v for v in model.variables if v.path == path)
    value = np.array(keras.ops.convert_to_numpy(variable))
    value.flat[0] = np.inf
    variable.assign(value)
    assert where_not_finite(model, *data()) == where


def test_a_layer_within_a_part_is_named_with_its_path():
    model = zoo.build("joint", encoder="resnet18", aspp=False)
    kernel = model.get_layer("encoder").get_layer("layer2_0_conv1").kernel
    kernel.assign(np.full(kernel.shape, np.nan, "float32"))
    assert (
        where_not_finite(model, harness.images(2, 32, 32), harness.labels(2, 32, 32)) == "layer encoder/layer2_0_conv1"
    )


def test_a_label_that_no_loss_can_bear_is_named_by_its_task():
    images, labels = data()
    labels["depth"][0, 1, 2] = 1e30
    assert where_not_finite(harness.tiny_model(), images, labels) == "the loss of depth"


def test_looking_leaves_layers_as_they_were():
    call = keras.Layer.__call__
    where_not_finite(harness.tiny_model(), *data())
    assert keras.Layer.__call__ is call


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_the_watch_tells_by_which_step(loss):
    watch = LossWatch(Clock(step=7))
    watch.look({"loss": 3.0, "silog": np.nan})
    with pytest.raises(NotFinite) as error:
        watch.look({"loss": loss})
    assert error.value.step == 7


@pytest.mark.parametrize(
    "part", ["model/conv/kernel", "optimizer/adam/conv_kernel_momentum", "metrics/depth_loss/total"]
)
def test_a_state_that_is_not_finite_is_never_saved(tmp_path, part):
    """Whether it is a weight, a moment or a mean: the state before it stays the last one."""
    model = harness.tiny_model()
    model.compile(Adam(0.01, name="adam"))
    model.train_on_batch(*data())
    clock, files = Clock(step=1), StateFiles(tmp_path)
    last = saving.LastState(files, Clock(0), saving.BestWeights(tmp_path / "best.safetensors"), 100)
    last.clock = clock
    last.set_model(model)
    last.save()
    last.wait()
    clock.step, state = 2, training_state(model)
    state[part] = np.full_like(state[part], np.nan)
    restore_training_state(model, state)
    with pytest.raises(NotFinite):
        last.save()
    last.wait()
    step, saved, _ = files.load()
    assert step == 1 and all_finite(saved)
