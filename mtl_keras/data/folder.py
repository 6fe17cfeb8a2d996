"""`folder`: a user's own images and labels, described by a small JSON or TOML file.

`<root>/dataset.toml` (or `.json`), with everything but `classes` optional:

    name = "my-town"
    classes = ["road", "sidewalk", "car"]                   # in the order of their ids in the label files
    palette = [[128, 64, 128], [244, 35, 232], [0, 0, 142]]
    images = "{split}/images/{id}.*"                        # {split} becomes train, val or test
    labels = "{split}/labels/{id}.png"
    depth  = "{split}/depth/{id}.png"
    depth_encoding = "linear"                               # or "disparity" (16-bit as Cityscapes), or "inverse"
    depth_scale = 0.001                                     # metres a unit: 0.001 for millimetres, 0.00390625 for 1/256
    depth_range = [0.5, 80.0]                               # metres; what lies outside is invalid
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from mtl_keras.data import raw_files
from mtl_keras.data.builder import ExampleBuilder
from mtl_keras.data.depth_encoding import ENCODINGS, RANGE_RULE, SCALE_RULE, is_range, is_scale
from mtl_keras.data.examples import Example
from mtl_keras.data.images import BadFile
from mtl_keras.data.raw_files import FileRules, RawSample
from mtl_keras.data.spec import IGNORE_LABEL, SPLITS, Color, DataSpec
from mtl_keras.errors import UserError, first_line, on_one_line
from mtl_keras.files import as_tuples, read_values

# What to look at where no depth is valid.
DEPTH_UNIT = "the files' unit is depth_scale in dataset.toml"
_DESCRIPTIONS = ("dataset.toml", "dataset.json")
_KINDS = ("images", "labels", "depth")


@dataclasses.dataclass(frozen=True)
class Description:
    """What a description file says (see the module); `written` are the facts that it names itself."""

    classes: tuple[str, ...] = ()
    name: str = "folder"
    palette: tuple[Color, ...] = ()
    images: str = "{split}/images/{id}.*"
    labels: str = "{split}/labels/{id}.*"
    depth: str = "{split}/depth/{id}.*"
    depth_encoding: str = "linear"
    depth_scale: float = 1.0
    depth_range: tuple[float, float] = (0.1, 300.0)
    written: frozenset[str] = dataclasses.field(default=frozenset(), init=False)

    @classmethod
    def read(cls, path: Path) -> "Description":
        """Reads and checks a description file.

        Raises:
            UserError: what is wrong with it.
        """
        try:
            facts = read_values(path)
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({first_line(error)}): mend it") from error
        known = {field.name for field in dataclasses.fields(cls) if field.init}
        if not isinstance(facts, dict) or not set(facts) <= known:
            strange = on_one_line(", ".join(sorted(set(facts) - known))) if isinstance(facts, dict) else "no table"
            raise UserError(f"{path} has {strange}: expected only {', '.join(sorted(known))}")
        try:
            description = cls(**as_tuples(facts))
        except ValueError as error:
            raise UserError(f"{path}: {on_one_line(error)}") from error
        object.__setattr__(description, "written", frozenset(facts))
        return description

    def __post_init__(self):
        for key in ("name", *_KINDS, "depth_encoding"):
            if not isinstance(getattr(self, key), str):
                raise ValueError(f"{key} is {getattr(self, key)!r}, expected a text")
        if not _is_name(self.name):
            raise ValueError(f"name is {self.name!r:.40}, expected one on one line")
        self._check_classes()
        self._check_paths()
        self._check_depth()

    def _check_classes(self) -> None:
        if not isinstance(self.classes, tuple):
            raise ValueError(f'classes is {self.classes!r:.40}, expected a list of names, such as ["road", "car"]')
        count = len(self.classes)
        if not 1 <= count <= IGNORE_LABEL:
            raise ValueError(f"classes has {count} entries, expected 1 to {IGNORE_LABEL} names")
        for name in self.classes:
            if not _is_name(name):
                raise ValueError(f'classes has {name!r:.40}, expected a name on one line, such as "road"')
        if twice := [name for index, name in enumerate(self.classes) if name in self.classes[:index]]:
            raise ValueError(f'classes has "{twice[0]}" twice, expected a name for each')
        colors = self.palette or ()
        if not isinstance(colors, tuple) or (colors and [_is_color(color) for color in colors] != [True] * count):
            raise ValueError("palette has no colour of three numbers 0–255 for every class")

    def _check_paths(self) -> None:
        for key in _KINDS:
            path = getattr(self, key)
            if "\\" in path or set(re.findall(r"\{.*?\}", path)) - {"{id}", "{split}"}:
                raise ValueError(f'{key} is "{path}", expected no braces but {{id}} and {{split}}, and no \\')
            if path.count("{id}") != 1:
                raise ValueError(f'{key} is "{path}", expected a path with {{id}} once')
            if Path(path).is_absolute() or ".." in Path(path).parts:
                raise ValueError(f'{key} is "{path}", expected a path within the folder')
        if "{split}" not in self.images:
            raise ValueError(f'images is "{self.images}", expected {{split}} in it: a split has its own')

    def _check_depth(self) -> None:
        if self.depth_encoding not in ENCODINGS:
            raise ValueError(f'depth_encoding is "{self.depth_encoding}", expected one of {", ".join(ENCODINGS)}')
        if not is_scale(self.depth_scale):
            raise ValueError(f"depth_scale is {self.depth_scale!s:.40}, expected {SCALE_RULE}")
        if not is_range(self.depth_range):
            raise ValueError(f"depth_range is {self.depth_range!s:.40}, expected {RANGE_RULE}")

    def spec(self) -> DataSpec:
        """The facts that a model keeps; the depth statistics are yet to be measured."""
        return DataSpec(self.name, self.classes, self.palette, depth_range=self.depth_range)


@dataclasses.dataclass(eq=False)
class FolderConfig(tfds.core.BuilderConfig):
    """Where the source lies, and its files.

    Args:
        facts: what the description says.
        samples: the samples of each split.
    """

    facts: Description | None = None
    samples: dict[str, list[RawSample]] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_source(cls, data_dir: Path) -> "FolderConfig":
        """Finds the samples of a folder; the configuration is named by the fingerprint of its files.

        Raises:
            UserError: no or a wrong description, no images, or a pattern in the description that finds nothing.
        """
        described = [data_dir / name for name in _DESCRIPTIONS if (data_dir / name).is_file()]
        if not described:
            raise UserError(f'{data_dir} has no dataset.toml: give it one, with classes = ["road", "car"] or others')
        if len(described) > 1:
            raise UserError(f"{data_dir} has {len(described)} descriptions: expected one dataset.toml or dataset.json")
        facts = Description.read(described[0])
        samples = {split: found for split in SPLITS if (found := _find_samples(data_dir, facts, split))}
        if not samples:
            raise UserError(f"{data_dir} has no images like {facts.images} in train, val or test: mend {described[0]}")
        _check_found(data_dir, described[0].name, facts, samples)
        files = raw_files.files_of(samples)
        return cls(name=raw_files.fingerprint(data_dir, [described[0], *files]), facts=facts, samples=samples)


class Folder(ExampleBuilder):
    """A user's own dataset."""

    def data_spec(self) -> DataSpec:
        return self.builder_config.facts.spec()

    def depth_encoding(self) -> str:
        return self.builder_config.facts.depth_encoding

    def jobs(self) -> dict[str, Sequence[RawSample]]:
        return self.builder_config.samples

    def reader(self) -> Callable[[Any], Example | list[BadFile]]:
        facts = self.builder_config.facts
        rules = FileRules(len(facts.classes), facts.depth_encoding, facts.depth_scale, facts.depth_range)
        return functools.partial(raw_files.read_example, rules=rules)


def _find_samples(root: Path, facts: Description, split: str) -> list[RawSample]:
    patterns = [getattr(facts, kind).replace("{split}", split) for kind in _KINDS]
    images, labels, depth = (_matches(root, pattern) for pattern in patterns)
    # In one folder, `{id}.*` fits the labels' names too.
    taken = {path for _, path in (*labels, *depth)}
    images = [(name, path) for name, path in images if path not in taken]
    return raw_files.raw_samples(*(raw_files.by_id(files) for files in (images, labels, depth)))


def _check_found(root: Path, description: str, facts: Description, samples: dict[str, list[RawSample]]) -> None:
    """Refuses a pattern that somebody wrote and that finds nothing, which would train on nothing in silence."""
    every = list(itertools.chain.from_iterable(samples.values()))
    for kind, label in (("labels", "semseg"), ("depth", "depth")):
        if kind in facts.written and not any(getattr(sample, label) for sample in every):
            raise UserError(
                f'{root} has no file like the {kind} "{getattr(facts, kind)}" for any image in train, val or test: '
                f"mend the pattern in {description}, or leave it out"
            )


def _matches(root: Path, pattern: str) -> list[tuple[str, Path]]:
    """Files with what stands in the place of {id}, which may reach over folders; pictures where a suffix is open."""
    before, after = pattern.split("{id}")
    within = before.rpartition("/")[0]
    # Suffixes are written in either case.
    ending = "(?i:" + re.escape(after).replace(r"\*", "[^/]*") + ")"
    expression = re.compile(re.escape(before) + "(.+)" + ending, re.DOTALL)
    found, has_suffix = [], re.search(r"\.\w+$", after)
    for path in raw_files.every_path(root / within):
        name = raw_files.name_within(root, path)
        match, is_hidden = expression.fullmatch(name), raw_files.is_hidden(name.removeprefix(f"{within}/"))
        if match and not is_hidden and (has_suffix or raw_files.is_picture(path)):
            found.append((match[1], path))
    return found


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and bool(name.strip()) and name.isprintable()


def _is_color(color: Any) -> bool:
    parts = color if isinstance(color, tuple) and len(color) == 3 else (-1,)
    return all(type(part) is int and 0 <= part <= 255 for part in parts)
