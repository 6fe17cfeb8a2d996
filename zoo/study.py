"""Studies: runs that vary one thing, as data. A study is a TOML file, one of `zoo/studies` or a user's own.

```toml
title = "Crop size"
question = "How much context does a crop need?"
columns = { "Crop" = "crop" }          # a heading, and the setting that it shows ("title" shows the run's title)

[base]                                 # settings of every run; what is absent here is the recipe's
arch = "joint"

[[runs]]
name = "small"
settings = { crop = [64, 64] }

[[runs]]
name = "large"
settings = { crop = [128, 128] }
scale = { epochs = 2 }                 # twice what the recipe says

[[expected]]                           # what the report should tell whether it holds
better = "large"
worse = ["small"]
```

`report` names the tables and figures that a study is after, and a run's `printed` quotes their numbers as they stand
there.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mtl_keras.errors import UserError, first_line, on_one_line
from mtl_keras.files import read_values

STUDIES = Path(__file__).parent / "studies"
LADDER = Path(__file__).parent / "ladder.toml"

# By what runs are compared. The grader is compared as mIoU − SI-logRMSE, which it is wherever it is not clamped.
METRICS = ("grader", "miou", "silog")
LOWER_IS_BETTER = ("silog",)


@dataclasses.dataclass(frozen=True)
class Printed:
    """What the report prints of a run, character by character; None where it prints nothing.

    Args:
        grader: its grader, and `semseg` its mIoU in percent, `depth` its SI-logRMSE.
        run: the name of its run.
        model_size: its number of trainable parameters.
        duration: how long it trained.
    """

    grader: str
    semseg: str
    depth: str
    run: str
    model_size: str | None = None
    duration: str | None = None

    @property
    def difference(self) -> Decimal:
        """Semseg − depth, which the grader should be."""
        return _number(self.semseg) - _number(self.depth)

    @property
    def adds_up(self) -> bool:
        """Whether the grader is semseg − depth, but for one in the last digit that is printed."""
        grader = _number(self.grader)
        unit = max(Decimal(1).scaleb(int(_number(text).as_tuple().exponent)) for text in (self.semseg, self.depth))
        return abs(grader - self.difference) <= unit


@dataclasses.dataclass(frozen=True)
class Variant:
    """One of the settings that a study compares.

    Args:
        name: its name within the study.
        title: how tables call it.
        settings: what it sets beyond the study's base.
        scale: factors of numeric settings, whatever the recipe makes them.
        printed: what the report prints of it, if anything.
    """

    name: str
    title: str
    settings: Mapping[str, Any]
    scale: Mapping[str, float]
    printed: Printed | None


@dataclasses.dataclass(frozen=True)
class Expected:
    """Which variant should be better than which, in what, and who says so."""

    better: str
    worse: str
    metric: str = "grader"
    source: str = "report"


@dataclasses.dataclass(frozen=True)
class Study:
    """A study as its file has it.

    Args:
        name: the file's name.
        path: what the commands take: the name of one of `zoo/studies`, or the file's path.
        title: what it is about.
        question: what it answers.
        report: the tables and figures of the report that it is after, or None.
        notes: what a reader of its results must know.
        columns: a table's first headings, and the settings that they show.
        base: settings of every run.
        variants: what is compared.
        expected: what should come out.
    """

    name: str
    path: str
    title: str
    question: str
    report: str | None
    notes: tuple[str, ...]
    columns: Mapping[str, str]
    base: Mapping[str, Any]
    variants: tuple[Variant, ...]
    expected: tuple[Expected, ...]

    def settings(self, variant: Variant) -> dict[str, Any]:
        """A variant's settings, the study's base among them, as a run's configuration takes them."""
        merged = {**self.base, **variant.settings}
        return {name: _plain(value) for name, value in merged.items()}

    def variant(self, name: str) -> Variant:
        """The variant of a name; raises `UserError` where there is none."""
        for variant in self.variants:
            if variant.name == name:
                return variant
        names = ", ".join(variant.name for variant in self.variants)
        raise UserError(f"{self.name}: no run '{name}' in this study; it has {names}")


@dataclasses.dataclass(frozen=True)
class Rung:
    """A step of a ladder: the variant of a study, and how it is called there."""

    study: str
    variant: str
    title: str


def studies() -> list[str]:
    """The names of the studies: the report's, in its order, and those that were added."""
    order = ("optimizer", "batch_size", "task_weights", "hardcoded", "decoder", "branched", "distillation", "final")
    found = {path.stem for path in STUDIES.glob("*.toml")}
    return [name for name in order if name in found] + sorted(found - set(order))


def read_study(name: str | Path) -> Study:
    """Reads a study.

    ```python
    for variant in read_study("task_weights").variants:
        print(variant.name, variant.settings)
    ```

    Args:
        name: one of `studies()`, or the path of a TOML file.

    Raises:
        UserError: for a name that is unknown, or a file that is not a study.
    """
    path = Path(name)
    if path.suffix != ".toml":
        path = STUDIES / f"{name}.toml"
        if not path.is_file():
            raise UserError(f"study: '{name}' is unknown; use one of {', '.join(studies())}, or give a .toml file")
    elif path.stem in studies() and path.resolve().parent != STUDIES.resolve():
        raise UserError(f"{path}: the library has a study of this name, and so would its folders; rename the file")
    return _Reader(path).study()


def read_ladders() -> dict[str, list[Rung]]:
    """The ladders across the report's studies, by title."""
    ladders = {}
    for ladder in read_values(LADDER)["ladders"]:
        rungs = [(*rung["run"].split("/"), rung["title"]) for rung in ladder["rungs"]]
        ladders[ladder["title"]] = [Rung(*rung) for rung in rungs]
    return ladders


class _Reader:
    """Reads one file; everything that is wrong with it ends in a line that begins with its path."""

    def __init__(self, path: Path):
        self.path = path

    def study(self) -> Study:
        table = self.parse()
        text, many = str, list
        self.check(
            table,
            "a study",
            required={"title": text, "question": text, "runs": many},
            optional={"report": text, "notes": many, "columns": dict, "base": dict, "expected": many},
        )
        self.all_are(str, table.get("notes", []), "notes")
        self.all_are(str, table.get("columns", {}).values(), "columns")
        variants = tuple(self.variant(run) for run in table["runs"])
        names = [variant.name for variant in variants]
        if not names:
            raise UserError(f"{self.path}: a study of no runs; give it [[runs]]")
        if twice := [name for name in names if names.count(name) > 1]:
            raise UserError(f"{self.path}: two runs have the name '{twice[0]}'; rename one of them")
        return Study(
            name=self.path.stem,
            path=self.path.stem if self.path.parent == STUDIES else str(self.path),
            title=table["title"],
            question=table["question"],
            report=table.get("report"),
            notes=tuple(table.get("notes", ())),
            columns=MappingProxyType(table.get("columns", {"": "title"})),
            base=MappingProxyType(table.get("base", {})),
            variants=variants,
            expected=tuple(
                pair
                for expected in table.get("expected", ())
                for pair in self.expected(expected, names, "report" if "report" in table else "the study")
            ),
        )

    def parse(self) -> dict[str, Any]:
        try:
            return read_values(self.path)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror}); give the path of a study") from None
        except ValueError as error:
            raise UserError(f"{self.path}: not a TOML file ({first_line(error)}); mend it") from None

    def variant(self, run: Any) -> Variant:
        self.check(
            run,
            "a run",
            required={"name": str},
            optional={"title": str, "settings": dict, "scale": dict, "printed": dict},
        )
        if not re.fullmatch(r"\w[\w.-]*", run["name"]):
            name = on_one_line(run["name"])
            raise UserError(f"{self.path}: '{name}' is no name of a run; use letters, digits, '.', '-' and '_'")
        self.all_are((int, float), run.get("scale", {}).values(), "scale")
        return Variant(
            name=run["name"],
            title=run.get("title", run["name"]),
            settings=MappingProxyType(run.get("settings", {})),
            scale=MappingProxyType(run.get("scale", {})),
            printed=self.printed(run["printed"]) if "printed" in run else None,
        )

    def printed(self, printed: Any) -> Printed:
        names = dict.fromkeys((field.name for field in dataclasses.fields(Printed)), str)
        optional = {name: names.pop(name) for name in ("model_size", "duration")}
        self.check(printed, "printed", required=names, optional=optional)
        for name in ("grader", "semseg", "depth"):
            if not _is_number(printed[name]):
                raise UserError(f"{self.path}: {name} = '{printed[name]}' is no number; give it as it is printed")
        return Printed(**printed)

    def expected(self, expected: Any, names: Sequence[str], author: str) -> list[Expected]:
        self.check(
            expected,
            "expected",
            required={"better": str, "worse": list},
            optional={"metric": str, "source": str},
        )
        for name in (expected["better"], *expected["worse"]):
            if name not in names:
                raise UserError(f"{self.path}: expected names the run '{name}'; use one of {', '.join(names)}")
        if expected["better"] in expected["worse"]:
            raise UserError(f"{self.path}: expected has '{expected['better']}' better than itself; name another run")
        metric = expected.get("metric", "grader")
        if metric not in METRICS:
            raise UserError(f"{self.path}: metric '{metric}' is unknown; use one of {', '.join(METRICS)}")
        source = expected.get("source", author)
        return [Expected(expected["better"], worse, metric, source) for worse in expected["worse"]]

    def all_are(self, kind: type | tuple[type, ...], values: Iterable[Any], what: str) -> None:
        for value in values:
            if not isinstance(value, kind) or (isinstance(value, float) and not math.isfinite(value)):
                wanted = "a text" if kind is str else "a number"
                raise UserError(f"{self.path}: {value!r} in '{what}' is not {wanted}; mend it")

    def check(self, table: Any, what: str, *, required: Mapping[str, type], optional: Mapping[str, type]) -> None:
        if not isinstance(table, dict):
            raise UserError(f"{self.path}: {what} is a table of values, not {table!r}; see zoo/study.py for the form")
        known = {**required, **optional}
        if unknown := sorted(set(table) - set(known)):
            raise UserError(f"{self.path}: '{unknown[0]}' is no field of {what}; use one of {', '.join(known)}")
        if missing := [name for name in required if name not in table]:
            raise UserError(f"{self.path}: {what} lacks '{missing[0]}'; add it")
        for name, value in table.items():
            if not isinstance(value, known[name]):
                raise UserError(f"{self.path}: '{name}' of {what} is not of type {known[name].__name__}; mend it")


def _plain(value: Any) -> Any:
    """TOML's values as a configuration has them: lists are tuples, and "none" stands for None."""
    if isinstance(value, list):
        return tuple(value)
    return None if value == "none" else value


def _is_number(text: str) -> bool:
    try:
        return _number(text).is_finite()
    except ArithmeticError:
        return False


def _number(printed: str) -> Decimal:
    """A printed number without what stands in brackets behind it."""
    return Decimal(printed.partition(" (")[0])
