"""What a command says of itself."""

import dataclasses
import subprocess
import sys

import pytest
from absl import flags

from trainers import cli
from trainers.config import SOURCE, RunConfig


@pytest.mark.parametrize(
    "name, expected",
    [
        ("fit", [field.name for field in dataclasses.fields(RunConfig)] + ["resume"]),
        ("data", [*SOURCE, "split", "out"]),
        ("predict", ["window", "overlap", "tta", "out"]),
    ],
)
def test_help_lists_every_flag_of_the_command_and_no_other(name, expected, command):
    process = command(name, "--help")
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 0
    assert {flag for flag in expected if f"--{flag}:" not in said and f"--[no]{flag}:" not in said} == set()
    assert "--alsologtostderr" not in said
    if name != "fit":
        assert "--learning_rate:" not in said


@pytest.mark.parametrize(("text", "value"), [("none", None), ("0.25", 0.25)])
def test_a_number_that_may_be_none_can_be_unset(text, value):
    options = {"default": 0.5, "metadata": {"help": "a number for this test"}}
    config = dataclasses.make_dataclass("Config", [("number_of_a_test", float | None, dataclasses.field(**options))])
    cli.define_flags(config)
    try:
        flags.FLAGS(["fit", f"--number_of_a_test={text}"])
        assert cli.given_flags(config) == {"number_of_a_test": value}
    finally:
        delattr(flags.FLAGS, "number_of_a_test")
        flags.FLAGS.unparse_flags()


def test_output_that_nobody_reads_any_more_ends_a_command_as_it_ends_others():
    code = (
        "from trainers import cli\n"
        "def main(arguments):\n"
        "    for _ in range(100_000):\n"
        "        cli.console().print('a line')\n"
        "cli.launch(main)"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait(60) == cli.EXIT_BROKEN_PIPE
