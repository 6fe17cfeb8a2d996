import numpy as np
import pytest

from mtl_keras import data
from mtl_keras.data.depth_encoding import encode_inverse_depth
from mtl_keras.data.loading import prepare
from mtl_keras.data.streets import Streets, StreetsConfig


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    config = StreetsConfig(name="tiny", size=(64, 128), counts={"train": 3, "val": 2})
    builder = Streets(config=config, data_dir=str(tmp_path_factory.mktemp("streets")))
    prepare(builder)
    return builder


def test_labels_and_depth_are_those_of_the_renderer(tiny):
    from mtl_keras.data.street_scenes import render_scene

    train = data.Dataset(tiny.data_path, "train")
    for i in range(3):
        scene, sample = render_scene(i, 64, 128), train[i]
        np.testing.assert_array_equal(sample["semseg"], scene.semseg)
        np.testing.assert_array_equal(sample["depth_codes"], encode_inverse_depth(scene.depth))
        assert abs(sample["image"].astype(int) - scene.image).mean() < 4  # JPEG


def test_splits_share_no_scene(tiny):
    jobs = Streets(config="full", data_dir=tiny._data_dir_root).jobs()
    assert {split: len(seeds) for split, seeds in jobs.items()} == {"train": 20_000, "val": 2_500, "test": 2_500}
    assert len(set().union(*jobs.values())) == 25_000
    others = Streets(config="pretraining", data_dir=tiny._data_dir_root).jobs()
    assert len(set().union(*others.values(), *jobs.values())) == 25_000 + 2_100


def test_depth_statistics_are_measured_on_the_train_split(tiny):
    train, val = (data.Dataset(tiny.data_path, split) for split in ("train", "val"))
    metres = np.concatenate([train.metres(train[i]).ravel() for i in range(3)]).astype(np.float64)
    metres = metres[metres > 0]
    assert (val.spec.depth_mean, val.spec.depth_std) == pytest.approx((metres.mean(), metres.std()))
