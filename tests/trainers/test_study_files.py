"""What a study's file sets and no run has: refused in a line that says where it stands."""

import re

import pytest

from mtl_keras.errors import UserError
from trainers.scheduling.plan import plan
from zoo.study import read_study

FILE = """
title = "Crop size"
question = "How much context does a crop need?"
columns = { "Crop" = "crop" }
[base]
epochs = 3
[[runs]]
name = "small"
settings = { crop = [64, 64] }
[[runs]]
name = "large"
settings = { crop = [128, 128] }
scale = { epochs = 2 }
"""


@pytest.mark.parametrize(
    "old, new, message",
    [
        ('= "crop"', '= "cropp"', "'cropp' of columns is no setting of a run; use 'crop'"),
        ('= "crop"', '= "titel"', "'titel' of columns is no setting of a run; use 'title'"),
        (
            "epochs = 3",
            "lr = 3",
            "'lr' of [base] is no setting of a run; remove it, or use one of those that --help lists",
        ),
        ("epochs = 3", "learning_rat = 3", "'learning_rat' of [base] is no setting of a run; use 'learning_rate'"),
        ("crop = [128", "corp = [128", "'corp' of run 'large' is no setting of a run; use 'crop'"),
        ("scale = { epochs", "scale = { epoch", "'epoch' of run 'large' is no setting of a run; use 'epochs'"),
        ("epochs = 3", "seeds = 3", "'seeds' of [base] is no setting of a run; remove it, or "),
        ("epochs = 3", "seed = 3", "'seed' of [base] is not a study's to set; remove it"),
        ("epochs = 3", 'epochs = "3"', "[base]: epochs: '3' is not of type int; "),
        ("epochs = 3", 'arch = "foo"', "[base]: arch: 'foo' is unknown; use one of "),
        ("crop = [64", "epochs = 0, crop = [64", "run 'small': epochs: 0 is too small; "),
        ("[128, 128] }\nscale = { epochs = 2 }", "[64, 64] }", "'small' and 'large' have the same settings; "),
    ],
)
def test_the_line_says_where_in_the_file_it_stands_and_what_was_meant(tmp_path, old, new, message):
    path = tmp_path / "t5.toml"
    path.write_text(FILE.replace(old, new), encoding="utf-8")
    with pytest.raises(UserError, match=f"^{re.escape(f'{path}: {message}')}") as refused:
        plan(read_study(path), "report", {}, seeds=1)
    assert "\n" not in str(refused.value)


def test_what_a_flag_gives_is_not_laid_to_the_file(tmp_path):
    path = tmp_path / "t5.toml"
    path.write_text(FILE, encoding="utf-8")
    with pytest.raises(UserError, match=r"run 'small': epochs: 0 is too small"):
        plan(read_study(path), "report", {"epochs": 0}, seeds=1)
