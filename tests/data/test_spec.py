"""`DataSpec`: what a model can be built for."""

import dataclasses

import pytest

from mtl_keras import UserError
from mtl_keras.data.spec import MINISCAPES, DataSpec, numbered_classes


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


def test_json_round_trip():
    assert DataSpec.from_dict(MINISCAPES.to_dict()) == MINISCAPES
