"""What a command says of itself."""

import dataclasses

import pytest

from trainers.config import SOURCE, RunConfig


@pytest.mark.parametrize(
    "name, flags",
    [
        ("fit", [field.name for field in dataclasses.fields(RunConfig)] + ["resume"]),
        ("data", [*SOURCE, "split", "out"]),
        ("predict", ["window", "overlap", "tta", "out"]),
    ],
)
def test_help_lists_every_flag_of_the_command_and_no_other(name, flags, command):
    process = command(name, "--help")
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 0
    assert {flag for flag in flags if f"--{flag}:" not in said and f"--[no]{flag}:" not in said} == set()
    assert "--alsologtostderr" not in said
    if name != "fit":
        assert "--learning_rate:" not in said
