"""What the README shows is what happens: its Python runs, and its commands and flags exist."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.runs import decisive_model, write_run
from trainers.config import RunConfig

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Blocks under this line are for reading alone.
NOT_RUN = "<!-- not run -->"


def blocks(page: Path, language: str) -> list[str]:
    found = re.finditer(rf"(?P<before>[^\n]*\n)```{language}\n(?P<code>.*?)```", page.read_text("utf-8"), re.S)
    return [match["code"] for match in found if NOT_RUN not in match["before"]]


@pytest.fixture(scope="module")
def place(module_path):
    """A folder with all that the README's examples name: a photo, and a run."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 72, 3), np.uint8)).save(module_path / "photo.jpg")
    Image.fromarray(rng.integers(0, 256, (40, 72, 3), np.uint8)).save(module_path / "street.png")
    run = write_run(module_path / "made", decisive_model("joint"), arch="joint")
    (module_path / "runs").mkdir()
    run.path.rename(module_path / "runs" / "NAME")
    return module_path


def test_its_python_runs_and_gives_classes_and_metres(place, monkeypatch):
    monkeypatch.chdir(place)
    examples = blocks(PAGES[0], "python")
    assert examples
    found = []
    for example in examples:
        names: dict = {}
        exec(compile(example, "README.md", "exec"), names)
        for value in names.values():
            found += value if isinstance(value, list) else [value]
    predictions = [value for value in found if hasattr(value, "semseg") and hasattr(value, "depth")]
    assert predictions
    for prediction in predictions:
        assert prediction.semseg.shape == prediction.depth.shape == (40, 72)
        assert prediction.depth.min() >= 4 and prediction.depth.max() <= 300


def test_networks_of_ones_own_are_trained_saved_and_loaded_as_their_page_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for example in blocks(ROOT / "docs" / "own_networks.md", "python"):
        exec(compile(example, "own_networks.md", "exec"), names)
        channels = {name: output.shape[-1] for name, output in names["model"].output.items()}
        assert channels == {"semseg": 3, "depth": 1}
    assert len(names["history"]["silog"]) == 2 and np.isfinite(names["history"]["loss"]).all()
    assert names["prediction"].depth.shape == (64, 96) and names["prediction"].depth.min() >= 0.5


def commands() -> list[tuple[str, str]]:
    """Every command of the project that a page shows, as its name and the rest of its line."""
    shown = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        shown += re.findall(r"python -m ((?:trainers|benchmarks)\.\w+)([^\n`#|]*)", text)
    return shown


def flags_of(module: str) -> set[str]:
    """The flags that a command's source defines, by itself or with the modules that share theirs."""
    source = (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    if "prediction_flags.define" in source:
        source += (ROOT / "trainers" / "prediction_flags.py").read_text(encoding="utf-8")
    if "scheduling" in source:
        source += "".join(path.read_text(encoding="utf-8") for path in (ROOT / "trainers" / "scheduling").glob("*.py"))
    names = set(re.findall(r"DEFINE_\w+\(\s*\"(\w+)\"", source)) | {"help"}
    if "define_flags(RunConfig" in source:
        names |= {field.name for field in dataclasses.fields(RunConfig)}
    return names


@pytest.mark.parametrize("module", sorted({name for name, _ in commands()}))
def test_its_commands_and_their_flags_exist(module):
    known = flags_of(module)
    for name, rest in commands():
        if name == module:
            shown = set(re.findall(r"--(\w+)", rest))
            assert {flag for flag in shown if flag not in known and flag.removeprefix("no") not in known} == set()


def test_its_pictures_and_links_are_there():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://", "mailto:")):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
