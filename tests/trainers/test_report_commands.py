"""The commands that a report's pages print: typed as they stand, they run the same study and make the same pages."""

import re
import shlex
from pathlib import Path

import pytest

from tests.trainers.test_report import run_study
from trainers.reporting import study_page
from trainers.reporting.results import collect

MINE = 'title = "Mine"\nquestion = "?"\n[base]\n{base}\n[[runs]]\nname = "a"\n'


def printed(page: Path, heading: str) -> str:
    """The command below a page's heading."""
    return re.search(rf"## {heading}\n\n```bash\n(.*?)\n```", page.read_text(encoding="utf-8"), re.S)[1]


@pytest.mark.parametrize("out", [None, "pages"])
def test_the_pages_of_a_study_of_ones_own_are_made_again_by_what_they_say(command, tmp_path, out):
    path, runs_dir = tmp_path / "my study.toml", tmp_path / "runs"
    path.write_text(MINE.format(base='dataset = "folder"\ndata_dir = "/home/me/town"'), encoding="utf-8")
    run_study(path, runs_dir, {"a": [(60.0, 30.0)]})
    flags = [f"--runs_dir={runs_dir}", *([f"--out={tmp_path / out}"] if out else [])]
    pages = tmp_path / out if out else runs_dir / "report"
    process = command("report", *flags)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors[-2000:]
    again = printed(pages / "README.md", "Make these pages again")
    assert shlex.split(again) == ["python", "-m", "trainers.report", str(path), *flags]
    study = printed(pages / "my study" / "README.md", "Run it again")
    expected = ["trainers.study", str(path), "--recipe=report", "--epochs=4", f"--runs_dir={runs_dir}"]
    assert shlex.split(study) == ["python", "-m", *expected]


def test_the_librarys_studies_that_were_run_elsewhere_say_where(command, tmp_path):
    run_study("branched", tmp_path, {"joint": [(60.0, 30.0)]})
    process = command("report", f"--runs_dir={tmp_path}", "--recipe=report")
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors[-2000:]
    again = printed(tmp_path / "report" / "README.md", "Make these pages again")
    assert again == f"python -m trainers.report --runs_dir={tmp_path} --recipe=report"
    assert printed(tmp_path / "report" / "branched" / "README.md", "Run it again").endswith(f" --runs_dir={tmp_path}")


@pytest.mark.parametrize(
    "base, given, is_asked_for",
    [
        ("", {}, False),
        ('dataset = "folder"\ndata_dir = "/home/me/town"', {}, False),
        ('dataset = "folder"', {"data_dir": "/home/me/town"}, True),
        ('data_dir = "/home/me/town"', {"dataset": "folder"}, False),
    ],
)
def test_data_is_asked_for_where_the_study_does_not_name_it(tmp_path, base, given, is_asked_for):
    path = tmp_path / "mine.toml"
    path.write_text(MINE.format(base=base), encoding="utf-8")
    study = run_study(path, tmp_path / "runs", {"a": [(60.0, 30.0)]}, **given)
    results = collect(study, tmp_path / "runs", tmp_path / "out", None)
    assert ("--data_dir=DIR" in study_page.command(results)) == is_asked_for
