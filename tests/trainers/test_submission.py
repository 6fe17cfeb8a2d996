"""Archives of predictions: what is written comes back, whatever ids and depth a dataset has."""

import numpy as np
import pytest
from PIL import Image

from mtl_keras import data
from mtl_keras.inference import Prediction
from trainers import submission


def test_predictions_of_any_id_are_found_again(tmp_path):
    """Of ids with spaces, folders and letters beyond ASCII, and of two that differ by such a character alone."""
    for name in ("x y", "x_y", "_d", "pier/é"):
        path = tmp_path / "source" / "val" / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(path)
    (tmp_path / "source" / "dataset.toml").write_text('classes = ["a", "b"]')
    dataset = data.load("folder", "val", data_dir=tmp_path / "source", prepared_dir=tmp_path / "prepared")
    prediction = Prediction(np.ones((32, 32), np.uint8), np.full((32, 32), 9.0, np.float32))
    with submission.writing(tmp_path / "submission.zip", dataset.spec) as archive:
        archive.add([dataset.id(index) for index in range(4)], [prediction] * 4)
    problems, _ = submission.check(tmp_path / "submission.zip", dataset)
    assert problems == []


@pytest.mark.parametrize("depth_range, depth", [((0.5, 40.0), 2.25), ((4.0, 300.0), 9.0)])
def test_an_archive_holds_the_depth_of_models_of_any_range(tmp_path, depth_range, depth):
    folder = tmp_path / "source" / "val"
    for kind, array in (
        ("images", np.zeros((32, 32, 3), np.uint8)),
        ("labels", np.ones((32, 32), np.uint8)),
        ("depth", np.full((32, 32), round(depth * 1000), np.uint16)),
    ):
        (folder / kind).mkdir(parents=True)
        Image.fromarray(array).save(folder / kind / "a.png")
    facts = f'classes = ["a", "b"]\ndepth_scale = 0.001\ndepth_range = {list(depth_range)}'
    (tmp_path / "source" / "dataset.toml").write_text(facts)
    dataset = data.load("folder", "val", data_dir=tmp_path / "source", prepared_dir=tmp_path / "prepared")
    prediction = Prediction(np.ones((32, 32), np.uint8), np.full((32, 32), depth, np.float32))
    with submission.writing(tmp_path / "submission.zip", dataset.spec) as archive:
        archive.add([dataset.id(0)], [prediction])
    problems, evaluation = submission.check(tmp_path / "submission.zip", dataset)
    assert problems == [] and evaluation.results()["depth"]["pooled"]["rel"] < 0.02
