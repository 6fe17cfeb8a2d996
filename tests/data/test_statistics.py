import numpy as np
import pytest
from PIL import Image

from mtl_keras import data


def test_statistics_agree_with_numpy_in_float64(prepared):
    dataset = prepared["train"]
    statistics = data.measure_statistics(dataset)
    samples = [dataset[i] for i in range(len(dataset))]
    labels = np.concatenate([sample["semseg"].ravel() for sample in samples])
    metres = np.concatenate([dataset.metres(sample).ravel() for sample in samples]).astype(np.float64)
    metres = metres[metres > 0]
    assert statistics.class_pixels == tuple(np.bincount(labels, minlength=19)[:19])
    assert statistics.ignored_pixels == (labels == 255).sum() - 72 * 96  # one sample has no label at all
    assert (statistics.missing_semseg, statistics.missing_depth, statistics.samples) == (1, 1, 23)
    assert (statistics.depth_mean, statistics.depth_std) == pytest.approx((metres.mean(), metres.std()), rel=1e-9)
    assert statistics.depth_pixels == sum(statistics.depth_histogram) == metres.size
    expected, _ = np.histogram(metres, np.geomspace(3.9999, 300.001, 65))
    assert abs(np.cumsum(expected) - np.cumsum(statistics.depth_histogram)).max() < 0.02 * metres.size
    assert statistics.sizes == {"72×96": 23}


def test_statistics_are_kept_with_the_data(miniscapes_dir, tmp_path):
    dataset = data.load("miniscapes", "val", data_dir=miniscapes_dir, prepared_dir=tmp_path)
    assert data.stored_statistics(dataset) is None
    measured = data.measure_statistics(dataset)
    data.store_statistics(dataset, measured)
    assert data.stored_statistics(data.Dataset(dataset.path, "val")) == measured


def test_a_split_without_labels_has_no_depth(prepared):
    statistics = data.measure_statistics(prepared["test"])
    assert (statistics.missing_semseg, statistics.missing_depth) == (2, 2)
    assert statistics.depth_pixels == 0 and statistics.depth_mean == 0


def test_depth_that_is_out_of_range_is_not_missing(tmp_path):
    images, depth = (tmp_path / "source" / "train" / kind for kind in ("images", "depth"))
    for folder in (images, depth):
        folder.mkdir(parents=True)
    for name, code in (("none", None), ("empty", 0), ("near", 9), ("far", 700)):
        Image.fromarray(np.zeros((8, 16, 3), np.uint8)).save(images / f"{name}.png")
        if code is not None:
            Image.fromarray(np.full((8, 16), code, np.uint16)).save(depth / f"{name}.png")
    (tmp_path / "source" / "dataset.toml").write_text('classes = ["a"]\ndepth_range = [0.5, 65]')
    dataset = data.load("folder", "train", data_dir=tmp_path / "source", prepared_dir=tmp_path / "prepared")
    statistics = data.measure_statistics(dataset)
    assert (statistics.missing_depth, statistics.invalid_depth, statistics.depth_pixels) == (2, 1, 8 * 16)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"samples": 3}', '{"of": "another version"}'])
def test_statistics_that_cannot_be_read_are_none(miniscapes_dir, tmp_path, content):
    dataset = data.load("miniscapes", "val", data_dir=miniscapes_dir, prepared_dir=tmp_path)
    path = data.store_statistics(dataset, data.measure_statistics(dataset))
    path.write_text(content)
    assert data.stored_statistics(dataset) is None
