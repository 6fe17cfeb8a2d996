"""The README's table of models, made again."""

from pathlib import Path

import pytest

from mtl_keras.errors import UserError
from tests.runs import decisive_model, write_run
from trainers import model_table
from trainers.model_table import BEGIN, END, Entry, Facts

ROOT = Path(__file__).parents[2]


def cells(table: str) -> list[list[str]]:
    """The rows below the heading."""
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1
    return rows[2:]


def entry(**changes) -> Entry:
    architecture = {"arch": "joint", "encoder": "resnet34", "dilation": [False, False, True], "aspp": True}
    facts = {
        "name": "made",
        "architecture": {**architecture, "skip": True, "aspp_rates": [3, 6, 9]},
        "num_classes": 19,
        "dataset": "streets",
        "epochs": 16,
        "metrics": {"grader": 66.4, "miou": 84.51, "silog": 18.11},
        "link": "docs/final.md",
    }
    return Entry(**{**facts, **changes})


def test_untrained_presets_have_the_reports_sizes_and_no_scores():
    rows = cells(model_table.table(Facts()))
    sizes = ["21,421,396", "26,716,084", "32,142,356", "36,868,136"]
    assert [row[3] for row in rows] == sizes
    # Counted by hand at 256×256 and output stride 16, for the three that the report builds on.
    assert [row[4] for row in rows[1:]] == ["13.64 G", "19.96 G", "39.31 G"]
    assert {row[2] for row in rows} == {"16"} and {row[-1] for row in rows} == {row[-2] for row in rows} == {"–"}


def test_a_run_fills_its_row_and_others_are_added():
    other = entry(
        name="other", architecture={"arch": "joint", "encoder": "resnet18", "dilation": [False] * 3}, link=None
    )
    facts = Facts({one.name: one for one in (entry(), other)}, {"joint, resnet34, stride 16": 61.4}, "a machine")
    table = model_table.table(facts)
    rows = cells(table)
    assert len(rows) == 5
    assert rows[1][-2:] == ["[66.40 / 84.51 / 18.11](docs/final.md)", "streets, 16 epochs"]
    assert rows[1][5] == "61" and rows[2][5] == "–"
    assert rows[4][1:3] == ["resnet18", "32"] and rows[4][-2] == "66.40 / 84.51 / 18.11"
    assert "a machine" in table


def test_the_command_writes_the_table_keeps_its_facts_and_notices_a_typed_one(tmp_path, command):
    readme, facts = tmp_path / "README.md", tmp_path / "models.json"
    readme.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nend\n")
    run = write_run(tmp_path / "runs", decisive_model("joint"), arch="joint", epochs=3)
    where = [f"--readme={readme}", f"--facts={facts}"]
    process = command("models", str(run.path), *where)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    text = readme.read_text()
    assert text.startswith("# Title\n") and text.endswith(f"{END}\n\nend\n") and "old" not in text
    row = next(row for row in cells(text) if row[1] == "resnet18")
    # The scores that `write_run` writes, and the card below the README.
    link = run.card.relative_to(tmp_path)
    assert row[-2:] == [f"[1.00 / 1.00 / 1.00]({link})", "streets, 3 epochs"] and "without ASPP" in row[0]

    checks = [command("models", "--check", *where)]
    typed = tmp_path / "typed.md"
    typed.write_text(text.replace("1.00 / 1.00", "9.00 / 1.00"))
    checks.append(command("models", "--check", f"--readme={typed}", where[1]))
    said = [process.communicate(timeout=300)[1] for process in checks]
    assert [process.returncode for process in checks] == [0, 1], said
    assert "not the current one; run `make models`" in said[1] and typed.read_text() != text


def test_what_is_no_place_or_no_run_is_one_line(tmp_path):
    (tmp_path / "README.md").write_text("# No markers\n")
    with pytest.raises(UserError, match="add the lines <!-- models:begin -->"):
        model_table.read_page(tmp_path / "README.md")
    with pytest.raises(UserError, match="cannot be read"):
        model_table.read_page(tmp_path / "none.md")
    with pytest.raises(UserError, match="not a run"):
        model_table.read_run(str(tmp_path), None, tmp_path)
    (tmp_path / "models.json").write_text("[]")
    with pytest.raises(UserError, match="none of this command's files"):
        Facts.read(tmp_path / "models.json")


def test_the_repositorys_table_is_the_current_one():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    if BEGIN not in text:
        pytest.skip("the README has no table of models")
    facts = Facts.read(ROOT / "docs" / "models.json")
    assert model_table.put_table(text, model_table.table(facts)) == text, "run `make models`"
