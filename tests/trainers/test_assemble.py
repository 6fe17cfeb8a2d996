"""What a run is told of its data before it begins."""

import dataclasses
import json
import logging
import shutil

import pytest

from mtl_keras.backend import Parallel
from mtl_keras.errors import UserError
from tests.data.conftest import write_miniscapes
from trainers.assemble import make_splits
from trainers.config import RunConfig


def config_of(source, tmp_path):
    places = {"data_dir": str(source), "prepared_dir": str(tmp_path / "prepared"), "crop": (32, 64), "batch_size": 2}
    small = {"arch": "joint", "encoder": "resnet18", "aspp": False, "skip": False}
    return RunConfig(dataset="miniscapes", **small, **places)


def test_a_task_that_has_no_label_at_all_is_told(tmp_path, caplog):
    source = tmp_path / "source"
    write_miniscapes(source, {"train": 4, "val": 2, "test": 1}, size=(64, 96))
    shutil.rmtree(source / "train" / "depth")
    shutil.rmtree(source / "val" / "semseg")
    with caplog.at_level(logging.WARNING, "trainers.assemble"):
        make_splits(config_of(source, tmp_path), Parallel())
    told = [record.getMessage() for record in caplog.records if record.name == "trainers.assemble"]
    assert told == [
        "miniscapes val has no semseg label at all: its metrics are NaN",
        "miniscapes train has no depth label within 4 to 300 m at all: nothing is learned of it",
    ]


def test_depth_in_another_unit_than_a_folder_says_is_told_with_the_way_out(tmp_path, caplog):
    write_miniscapes(tmp_path / "source", {"train": 4, "val": 2}, size=(64, 96))
    description = {
        "classes": [f"class {index}" for index in range(19)],
        "images": "{split}/rgb/{id}.jpg",
        "labels": "{split}/semseg/{id}.png",
        "depth": "{split}/depth/{id}.png",
        "depth_scale": 1e-6,
        "depth_range": [0.5, 80.0],
    }
    (tmp_path / "source" / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    with caplog.at_level(logging.WARNING, "trainers.assemble"):
        make_splits(dataclasses.replace(config_of(tmp_path / "source", tmp_path), dataset="folder"), Parallel())
    assert [record.getMessage() for record in caplog.records if record.name == "trainers.assemble"] == [
        "folder train has no depth label within 0.5 to 80 m at all: nothing is learned of it; the files' unit is "
        "depth_scale in dataset.toml",
        "folder val has no depth label within 0.5 to 80 m at all: its metrics are NaN; the files' unit is depth_scale "
        "in dataset.toml",
    ]


def test_nothing_is_trained_where_nothing_is_labelled(tmp_path):
    source = tmp_path / "source"
    write_miniscapes(source, {"train": 4, "val": 2}, size=(64, 96))
    for kind in ("semseg", "depth"):
        (source / "train" / kind).rename(source / "train" / f"{kind}s")
    with pytest.raises(UserError, match="miniscapes train has no label at all, of neither task"):
        make_splits(config_of(source, tmp_path), Parallel())


def test_a_view_that_cannot_be_is_told_before_data_is_prepared(tmp_path):
    source = tmp_path / "source"
    write_miniscapes(source, {"train": 4, "val": 2}, size=(64, 96))
    with pytest.raises(UserError, match="tilt"):
        make_splits(dataclasses.replace(config_of(source, tmp_path), tilt=200.0), Parallel())
    assert not (tmp_path / "prepared").exists()
