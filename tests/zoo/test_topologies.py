"""Every topology through the harness. The parameter counts are the report's "Model Size" column."""

import keras
import numpy as np
import pytest

import zoo
from mtl_keras import UserError
from mtl_keras.checkpoints import restore_training_state, training_state
from mtl_keras.cost import count_parameters
from mtl_keras.data.spec import MINISCAPES, numbered_classes
from tests import harness


class TestJoint(harness.ModelTests):
    arch = "joint"
    parameters = 26_716_084


class TestBranched(harness.ModelTests):
    arch = "branched"
    parameters = 32_142_356


class TestDistillation(harness.ModelTests):
    arch = "distillation"
    parameters = 36_868_136
    predictions = {"semseg", "depth", "semseg_initial", "depth_initial"}


class TestJointWithoutAsppAndSkip(harness.ModelTests):
    arch = "joint"
    options = {"encoder": "resnet18", "aspp": False, "skip": False, "dilation": (False, False, False)}
    parameters = 21_421_396
    stride = 32


def test_the_harness_has_every_topology():
    tested = {case.arch for case in harness.ModelTests.__subclasses__()}
    assert set(zoo.topologies()) <= tested


@pytest.mark.parametrize(
    "options, message",
    [
        ({"arch": "jiont"}, "arch: 'jiont' is unknown.*branched, distillation, joint"),
        (
            {"arch": "joint_resnet34"},
            "arch: 'joint_resnet34' is a preset; .* zoo.build\\(arch='joint', encoder='resnet34'\\)",
        ),
        ({"encoder": "resnet35"}, "encoder: 'resnet35' is unknown.*resnet34"),
        ({"dilation": (True, False, True)}, "dilation: True,False,True cannot be built"),
        ({"dilation": (True,)}, "dilation: True cannot be built"),
        ({"dilation": True}, "dilation: True cannot be built"),
        ({"dilation": (1, 1, 2)}, "dilation: 1,1,2 cannot be built"),
        ({"dilation": ("False", "False", "True")}, "dilation: False,False,True cannot be built"),
        ({"aspp_rates": 6}, r"aspp_rates: 6 is one rate; give three, such as \(3, 6, 9\)"),
        ({"num_classes": True}, "num_classes: True is no number of classes; give 1 to 255"),
        ({"spec": "cityscapes"}, "spec: 'cityscapes' is no DataSpec"),
    ],
)
def test_unknown_names_end_in_one_line(options, message):
    with pytest.raises(UserError, match=message) as error:
        zoo.build(**{"arch": "joint", **options})
    assert "\n" not in str(error.value)


def test_number_of_classes():
    assert zoo.build("joint", encoder="resnet18").spec == MINISCAPES
    model = zoo.build("branched", encoder="resnet18", num_classes=7)
    assert model.output["semseg"].shape == (None, None, None, 7)
    assert model.output["depth"].shape == (None, None, None, 1)
    assert model.spec == numbered_classes(7)


def test_a_number_of_classes_that_is_not_the_specs_is_refused():
    message = "num_classes: 7 is not the 19 of spec 'miniscapes'; leave one of them out"
    with pytest.raises(UserError, match=message):
        zoo.build("joint", num_classes=7, spec=MINISCAPES)
    assert zoo.build("joint", encoder="resnet18", num_classes=19, spec=MINISCAPES).spec == MINISCAPES


def test_numbers_of_numpy_are_numbers_of_classes():
    assert zoo.build("joint", encoder="resnet18", num_classes=np.int64(4)).spec.num_classes == 4


def test_images_in_channels_first_are_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(UserError, match="image_data_format: channels_first cannot be built; call keras.config"):
            zoo.build("joint", encoder="resnet18")
    finally:
        keras.config.set_image_data_format("channels_last")


def test_a_preset_without_weights_says_how_to_build_it():
    call = r"zoo.build\(arch='branched', encoder='resnet34'\)"
    with pytest.raises(UserError, match=f"preset 'branched_resnet34': no weights .*, or build it untrained: {call}"):
        zoo.load("branched_resnet34")


def test_a_topology_of_ones_own_is_a_function(tmp_path):
    def mine(features, heads):
        shared = keras.layers.Dropout(0.1)(heads.decode(features, name="shared"))
        semseg, depth = heads.both(shared, name="shared")
        return {"semseg": semseg, "depth": depth}

    model = zoo.build(mine, encoder="resnet18")
    assert model.name == model.architecture["arch"] == "mine"
    assert count_parameters(model) == count_parameters(zoo.build("joint", encoder="resnet18"))
    model.save(tmp_path / "mine.keras")
    assert zoo.load(tmp_path / "mine.keras").architecture == model.architecture
    tuned = zoo.load(tmp_path / "mine.keras", num_classes=4, arch=mine)
    assert tuned.spec.num_classes == 4 and tuned.architecture == model.architecture
    again = zoo.build(mine, encoder="resnet18")
    for one in (model, again):
        one.compile(None)
    restore_training_state(again, training_state(model))
    mine.__name__ = "joint"
    with pytest.raises(UserError, match="arch: the zoo has a topology 'joint'; give your function another name"):
        zoo.build(mine)
