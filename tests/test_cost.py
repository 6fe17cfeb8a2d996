"""Parameters and multiply-adds against those that were counted by hand and by another tool."""

import keras
import pytest
from keras import layers

import zoo
from mtl_keras import MultiTaskModel, UserError
from mtl_keras.cost import multiply_adds
from tests import harness


def test_presets_cost_what_the_report_and_its_reference_say():
    presets = zoo.presets()
    assert list(presets) == zoo.list()
    expected = {
        "joint_plain_resnet34": (21_421_396, None),
        "joint_resnet34": (26_716_084, 13.64),
        "branched_resnet34": (32_142_356, 19.96),
        "distillation_resnet34": (36_868_136, 39.31),
    }
    for name, (parameters, giga) in expected.items():
        assert presets[name]["parameters"] == parameters
        if giga is not None:
            assert presets[name]["multiply_adds"] / 1e9 == pytest.approx(giga, abs=0.005)


@pytest.mark.parametrize("arch, giga", [("joint", 10.36), ("branched", 15.91), ("distillation", 35.26)])
def test_at_output_stride_32(arch, giga):
    model = zoo.build(arch, dilation=(False, False, False))
    assert multiply_adds(model) / 1e9 == pytest.approx(giga, abs=0.005)


def test_a_small_model_by_hand():
    """At 8×12: a 3×3 convolution from 3 to 8 channels, and a 1×1 one from 8 to 5."""
    model = harness.tiny_model()
    assert multiply_adds(model, 8, 12) == 8 * 12 * (9 * 3 * 8 + 8 * 5)
    assert multiply_adds(model, 16, 12) == 2 * multiply_adds(model, 8, 12)


def test_grouped_and_strided_convolutions_by_hand():
    image = keras.Input((None, None, 3), name="image")
    x = layers.DepthwiseConv2D(3, padding="same", strides=2)(image)
    x = layers.Conv2D(6, 3, padding="same", groups=3)(x)
    outputs = {"semseg": layers.Conv2D(4, 1)(x), "depth": layers.Conv2D(1, 1)(x)}
    model = MultiTaskModel(image, outputs, spec=harness.spec())
    assert multiply_adds(model, 8, 8) == 16 * (9 * 3 + 9 * 1 * 6 + 6 * 4 + 6 * 1)


def model_of(features) -> MultiTaskModel:
    image = keras.Input((None, None, 3), name="image")
    x = features(image)
    return MultiTaskModel(
        image, {n: layers.Conv2D(c, 1)(x) for n, c in (("semseg", 4), ("depth", 1))}, spec=harness.spec()
    )


def test_transposed_and_separable_convolutions_by_hand():
    """At 8×8: a transposed one spreads each place of its input, a separable one has two kernels."""
    transposed = model_of(lambda x: layers.Conv2DTranspose(6, 4, strides=2, padding="same")(x))
    assert multiply_adds(transposed, 8, 8) == 8 * 8 * (16 * 3 * 6) + 16 * 16 * 6 * 5
    separable = model_of(lambda x: layers.SeparableConv2D(6, 3, strides=2, padding="same", depth_multiplier=2)(x))
    assert multiply_adds(separable, 8, 8) == 4 * 4 * (9 * 3 * 2 + 6 * 6 + 6 * 5)


def test_a_layer_that_is_called_twice_costs_twice():
    twice = layers.Conv2D(3, 3, padding="same")
    assert multiply_adds(model_of(lambda x: twice(twice(x))), 8, 8) == 8 * 8 * (2 * 9 * 3 * 3 + 3 * 5)


class Nested(layers.Layer):
    """Calls a convolution where its model does not see it."""

    def __init__(self):
        super().__init__()
        self.conv = layers.Conv2D(6, 3, padding="same")

    def build(self, shape):
        self.conv.build(shape)

    def call(self, x):
        return self.conv(x)


@pytest.mark.parametrize("layer", [lambda: layers.EinsumDense("abcd,de->abce", (None, None, 6)), Nested])
def test_what_cannot_be_counted_is_refused(layer):
    with pytest.raises(ValueError, match="multiply_adds: the (EinsumDense|Conv2D) '.*' cannot be counted"):
        multiply_adds(model_of(lambda x: layer()(x)), 8, 8)


def test_a_preset_without_weights_says_how_to_get_them():
    with pytest.raises(
        UserError, match="train it with `python -m trainers.fit --arch=joint --encoder=resnet34 --noaspp"
    ):
        zoo.load("joint_plain_resnet34")
