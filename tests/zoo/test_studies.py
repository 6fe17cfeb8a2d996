"""The report's studies as data, and what is told of a file that is no study."""

from decimal import Decimal

import pytest

from mtl_keras.errors import UserError
from zoo.study import Printed, read_ladders, read_study, studies

GOOD = """
title = "Crop size"
question = "How much context?"
columns = { "Crop" = "crop" }
[base]
arch = "joint"
pretrained = "none"
[[runs]]
name = "small"
settings = { crop = [64, 64] }
[[runs]]
name = "large"
title = "large crop"
settings = { crop = [128, 128] }
scale = { epochs = 2 }
[[expected]]
better = "large"
worse = ["small"]
"""


def write(folder, text: str):
    path = folder / "crops.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_reports_studies_come_first_and_in_its_order():
    reports = [read_study(name).report for name in studies()]
    assert [report.split(",")[0] for report in reports[:8]] == [f"Table {number}" for number in range(1, 9)]
    assert reports[8:] == [None] * len(reports[8:])


def test_exactly_the_reports_known_numbers_do_not_add_up():
    """Its tables 1, 3 and 4 print four graders that are not semseg − depth; one of them stands in all three."""
    wrong = {
        (name, variant.printed.grader, str(variant.printed.difference))
        for name in studies()
        for variant in read_study(name).variants
        if variant.printed and not variant.printed.adds_up
    }
    assert wrong == {
        ("optimizer", "43.686", "43.586"),
        ("task_weights", "43.686", "43.586"),
        ("task_weights", "43.008", "43.088"),
        ("hardcoded", "43.686", "43.586"),
        ("hardcoded", "53.911", "50.612"),
    }


def test_a_printed_number_may_be_off_by_one_in_its_last_digit():
    assert Printed("69.31 (22)", "86.00 (21)", "16.68 (20)", "run").adds_up
    assert not Printed("69.30", "86.00", "16.68", "run").adds_up
    assert Printed("58.246", "79.932", "21.687", "run").difference == Decimal("58.245")


def test_a_run_that_the_report_prints_twice_has_the_same_numbers_in_both_places():
    printed = {}
    for name in studies():
        for variant in read_study(name).variants:
            if variant.printed and name != "final":
                key = variant.printed.run[-5:]
                assert printed.setdefault(key, variant.printed.grader) == variant.printed.grader


def test_ladders_climb_by_runs_of_the_studies():
    for rungs in read_ladders().values():
        graders = [read_study(rung.study).variant(rung.variant).printed.grader for rung in rungs]
        assert graders == sorted(graders), "each step of the report's ladder is a gain"


def test_a_file_of_ones_own(tmp_path):
    study = read_study(write(tmp_path, GOOD))
    assert study.name == "crops"
    small, large = study.variants
    assert study.settings(small) == {"arch": "joint", "pretrained": None, "crop": (64, 64)}
    assert (small.title, large.title, large.scale["epochs"]) == ("small", "large crop", 2)
    assert [(e.better, e.worse, e.metric) for e in study.expected] == [("large", "small", "grader")]


@pytest.mark.parametrize(
    "old, new, message",
    [
        ('title = "Crop size"', 'titel = "Crop size"', "'titel' is no field of a study; use one of title"),
        ('question = "How much context?"', "", "a study lacks 'question'; add it"),
        ("scale =", "scales =", "'scales' is no field of a run"),
        ('name = "large"', 'name = "small"', "two runs have the name 'small'; rename one"),
        ('name = "large"', 'name = "../large"', "'../large' is no name of a run"),
        ('worse = ["small"]', 'worse = ["medium"]', "expected names the run 'medium'; use one of small, large"),
        ('worse = ["small"]', 'worse = ["large"]', "expected has 'large' better than itself"),
        ('name = "large"', 'name = "a\\nb"', r"'a\nb' is no name of a run"),
        ('better = "large"', 'better = "large"\nmetric = "loss"', "metric 'loss' is unknown; use one of grader"),
        ("crop = [64, 64]", "crop = [64", "not a TOML file"),
        ("epochs = 2", "epochs = nan", "nan in 'scale' is not a number"),
        ('columns = { "Crop" = "crop" }', 'columns = { "Crop" = ["crop"] }', "in 'columns' is not a text"),
        ('question = "How', 'notes = [1]\nquestion = "How', "1 in 'notes' is not a text"),
        ("settings = { crop = [64, 64] }", 'settings = "crop"', "'settings' of a run is not of type dict"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_in_one_line(tmp_path, old, new, message):
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(UserError) as error:
        read_study(path)
    assert message in str(error.value) and str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_study_names_those_there_are(tmp_path):
    with pytest.raises(UserError, match="'optimiser' is unknown; use one of optimizer, batch_size"):
        read_study("optimiser")
    with pytest.raises(UserError, match="cannot be read"):
        read_study(tmp_path / "none.toml")
