"""A run's data where a command's flags say that it lies."""

import pytest
from absl import flags

from trainers import data_flags
from trainers.config import RunConfig

RUN = RunConfig(dataset="miniscapes", data_dir="raw", prepared_dir="prepared", skip_bad_files=True)


@pytest.fixture
def asked(monkeypatch):
    """What `data.load` is asked for, under flags of their own, by what is given on the command line."""
    values = flags.FlagValues()
    monkeypatch.setattr(flags, "FLAGS", values)
    monkeypatch.setattr(data_flags, "FLAGS", values)
    flags.DEFINE_string("dataset", None, "", flag_values=values)
    for name in ("data_dir", "prepared_dir"):
        flags.DEFINE_string(name, None, "", flag_values=values)
    monkeypatch.setattr("mtl_keras.data.load", lambda name, split, **source: (name, split, source))

    def load(*given: str):
        values(["command", *given])
        return data_flags.load(RUN, "val")

    return load


def test_without_flags_it_is_where_the_run_had_it(asked):
    source = {"data_dir": "raw", "prepared_dir": "prepared", "skip_bad_files": True}
    assert asked() == ("miniscapes", "val", source)


def test_data_that_has_moved_is_read_there(asked):
    source = {"data_dir": "elsewhere", "prepared_dir": "prepared", "skip_bad_files": True}
    assert asked("--data_dir=elsewhere") == ("miniscapes", "val", source)
    assert asked("--data_dir=none")[2]["data_dir"] is None


def test_another_dataset_has_nothing_of_the_first_ones_folders(asked):
    source = {"data_dir": None, "prepared_dir": "prepared", "skip_bad_files": True}
    assert asked("--dataset=streets") == ("streets", "val", source)
    assert asked("--dataset=streets", "--prepared_dir=none")[2]["prepared_dir"] is None
