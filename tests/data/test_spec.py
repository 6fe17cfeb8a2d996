"""`DataSpec`: what a model can be built for."""

import dataclasses

import pytest

from mtl_keras import UserError
from mtl_keras.data.spec import CITYSCAPES_COLORS, MINISCAPES, DataSpec, numbered_classes, numbered_color


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"classes": (), "palette": ()}, "0 classes"),
        ({"palette": ((0, 0, 0),)}, "19 classes in 1 colours"),
        ({"depth_std": 0.0}, "a positive deviation"),
        ({"depth_mean": float("nan")}, "finite numbers"),
        ({"depth_range": (10.0, 1.0)}, "a rising, positive range"),
        ({"depth_range": (0.0, 80.0)}, "a rising, positive range"),
    ],
)
def test_what_no_dataset_has_is_refused_in_one_line(wrong, message):
    with pytest.raises(UserError, match=message) as error:
        dataclasses.replace(MINISCAPES, **wrong)
    assert "\n" not in str(error.value)


def test_as_many_classes_as_label_images_hold():
    assert numbered_classes(255).num_classes == 255
    with pytest.raises(UserError, match="256 classes"):
        numbered_classes(256)


def test_classes_without_colours_are_given_some():
    assert DataSpec("mine", ("road", "moose")).palette == (CITYSCAPES_COLORS["road"], numbered_color(1))
    assert MINISCAPES.palette == tuple(CITYSCAPES_COLORS.values())


def test_numbered_classes_have_the_depth_of_another_spec():
    near = DataSpec("near", depth_mean=5.0, depth_std=3.0, depth_range=(0.5, 65.0))
    spec = numbered_classes(7, like=near)
    assert (spec.depth_mean, spec.depth_std, spec.depth_range) == (5.0, 3.0, (0.5, 65.0))


def test_json_round_trip():
    assert DataSpec.from_dict(MINISCAPES.to_dict()) == MINISCAPES
