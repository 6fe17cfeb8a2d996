"""The configuration of a run: recipes under flags, checks, and its JSON."""

import dataclasses
import json

import pytest

from mtl_keras.errors import UserError
from trainers.config import RunConfig, from_settings, read_config
from trainers.run_folder import create, newest_like


def test_the_report_recipe_has_the_reports_final_settings():
    config = from_settings({"dataset": "miniscapes"})
    assert config.recipe == "report"
    assert (config.optimizer, config.learning_rate, config.batch_size, config.epochs) == ("adam", 1e-4, 4, 16)
    assert (config.loss_weight_semseg, config.loss_weight_depth, config.crop) == (0.5, 0.5, (256, 256))
    assert config.dilation == (False, False, True)


def test_the_built_in_dataset_takes_the_demo_recipe_and_others_the_reports():
    assert from_settings({}).recipe == "demo"
    assert from_settings({"dataset": "streets/full"}).recipe == "report"
    assert from_settings({"dataset": "streets", "recipe": "report"}).recipe == "report"


def test_a_flag_stands_over_the_recipe():
    assert from_settings({"recipe": "report", "learning_rate": 0.5}).learning_rate == 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recipe": "none"}, "recipe: 'none' is unknown; use one of"),
        ({"optimizer": "rmsprop"}, "optimizer: 'rmsprop' is unknown; use one of adam, sgd, adamw"),
        ({"batch_size": 0}, "batch_size: 0 is too small; give 1 or more"),
        ({"learning_rate": 0.0}, "learning_rate: 0.0 is too small; give more than 0"),
        ({"learning_rate": float("nan")}, "learning_rate: nan is no number to calculate with"),
        ({"crop": (256,)}, "crop: (256,) is not a height and a width"),
        ({"epochs": "many"}, "epochs: 'many' is not of type int"),
        ({"aspp": 1}, "aspp: 1 is not of type bool"),
        ({"on_nan": "ignore"}, "on_nan: 'ignore' is unknown; use one of stop, rollback, skip"),
        ({"on_nan": "skip", "precision": "mixed_float16"}, "on_nan: skip does not go with mixed_float16"),
        ({"ema": 1.0}, "ema: 1.0 is too large; give less than 1"),
        ({"clip_norm": 0.0}, "clip_norm: 0.0 is too small; give more than 0"),
        ({"loss_weight_semseg": 0.0, "loss_weight_depth": 0.0}, "loss_weight_semseg: with both weights 0"),
        ({"accumulate": 0}, "accumulate: 0 is too small; give 1 or more"),
    ],
)
def test_a_wrong_value_is_named_with_the_mend(settings, message):
    with pytest.raises(UserError) as error:
        from_settings(settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_json_starts_the_same_run_again(tmp_path):
    config = from_settings({"dataset": "miniscapes", "data_dir": "somewhere", "dilation": (False, True, True)})
    path = tmp_path / "config.json"
    path.write_text(config.to_json())
    assert read_config(path) == config


def test_a_file_from_before_a_setting_existed_is_read_with_its_default(tmp_path):
    values = json.loads(from_settings({"dataset": "miniscapes"}).to_json())
    for name in ("accumulate", "clip_norm", "ema", "on_nan", "profile"):
        del values[name]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    assert read_config(path) == from_settings({"dataset": "miniscapes"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as a configuration"),
        ("[]", "holds no configuration"),
        ('{"speed": 1}', "'speed' is no setting of a run"),
        ('{"epochs": "x"}', "epochs: 'x' is not of type int"),
        ('{"batch_size": -1}', "batch_size: -1 is too small"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path, text, message):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(UserError, match=f"^{path}: .*{message}"):
        read_config(path)


def test_a_configuration_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunConfig().epochs = 3


def test_auto_means_the_newest_run_of_these_settings_wherever_its_data_lies(tmp_path):
    places = {"runs_dir": str(tmp_path), "dataset": "miniscapes"}
    here, there = RunConfig(data_dir="here", **places), RunConfig(data_dir="there", **places)
    first = create(here)
    assert newest_like(here).path == first.path
    assert newest_like(there).path == first.path  # which then is refused, if it is other data
    second = create(there)
    assert newest_like(here).path == first.path and newest_like(there).path == second.path
    with pytest.raises(UserError, match="no run of this configuration"):
        newest_like(dataclasses.replace(here, epochs=99))
