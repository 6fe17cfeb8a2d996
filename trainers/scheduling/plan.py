"""From a study to the configurations of its runs."""

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from mtl_keras.encoders.resnet import VARIANTS
from mtl_keras.errors import UserError, on_one_line
from trainers.config import PLACES, RunConfig, from_settings
from zoo.builder import topologies
from zoo.study import Study, Variant

# What changes neither the weights that a run ends with nor its metrics.
INCIDENTAL = (
    "recipe",
    "name",
    *PLACES,
    "val_batch_size",
    "runs_dir",
    "save_every",
    "save_steps",
    "export",
    "baseline",
    "profile",
)
# What the command that runs a study gives its runs.
_COMMANDS_OWN = {"name", "recipe", "runs_dir", "seed"}


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """A run that a study asks for.

    Args:
        variant: the name of the study's variant.
        seed: the run's seed.
        config: its configuration.
    """

    variant: str
    seed: int
    config: RunConfig

    @property
    def label(self) -> str:
        """The run's name within the study; the seed is part of it unless it is 0."""
        return f"{self.variant}.seed{self.seed}" if self.seed else self.variant


def plan(study: Study, recipe: str, given: Mapping[str, Any], seeds: int) -> list[PlannedRun]:
    """The runs of a study, seed by seed, so that the first seed's comparison is there before the next begins.

    Args:
        study: the study.
        recipe: what its runs start from.
        given: settings that override the study's. `pretrained` replaces the weights of the runs that the study
            pretrains and leaves those that it sets to "none"; `seed` is the first seed.
        seeds: runs of each variant.

    Raises:
        UserError: for a setting that a run does not have or that does not fit, or two variants that come out alike.
    """
    first = given.get("seed", 0)
    runs = [
        PlannedRun(variant.name, seed, configuration(study, variant, recipe, {**given, "seed": seed}))
        for seed in range(first, first + seeds)
        for variant in study.variants
    ]
    seen: dict[str, str] = {}
    for run in runs:
        other = seen.setdefault(identity(run.config), run.variant)
        if other != run.variant:
            raise UserError(f"{study.path}: '{other}' and '{run.variant}' have the same settings; make them differ")
    return [dataclasses.replace(run, config=_named(study, run)) for run in runs]


def configuration(study: Study, variant: Variant, recipe: str, given: Mapping[str, Any]) -> RunConfig:
    """A variant's configuration; raises `UserError` for a setting that a run does not have or that does not fit."""
    _check_settings(study, variant)
    settings, given = study.settings(variant), dict(given)
    if "pretrained" in settings and settings["pretrained"] is None:
        given.pop("pretrained", None)
    try:
        config = from_settings({**settings, **given, "recipe": recipe})
        scaled: dict[str, Any] = {name: _scaled(config, name, by) for name, by in variant.scale.items()}
        _check_names(config)
        return dataclasses.replace(config, **scaled)
    except UserError as error:
        # It begins with the setting's name.
        name = str(error).partition(":")[0]
        in_base = name in study.base and name not in {*variant.settings, *variant.scale, *given}
        place = "[base]" if in_base else f"run '{variant.name}'"
        raise UserError(f"{study.path}: {place}: {error}") from None


def _check_settings(study: Study, variant: Variant) -> None:
    """Refuses what a run does not have or a study may not set, with the place in its file."""
    fields = [field.name for field in dataclasses.fields(RunConfig)]
    run = f"run '{variant.name}'"
    for place, names, known in (
        ("columns", set(study.columns.values()), [*fields, "title"]),
        ("[base]", set(study.base), fields),
        (run, {*variant.settings, *variant.scale}, fields),
    ):
        if unknown := sorted(names - set(known)):
            near = difflib.get_close_matches(unknown[0], set(known) - _COMMANDS_OWN, n=1)
            mend = f"use '{near[0]}'" if near else "remove it, or use one of those that --help lists"
            raise UserError(f"{study.path}: '{on_one_line(unknown[0])}' of {place} is no setting of a run; {mend}")
        if place != "columns" and (own := sorted(names & _COMMANDS_OWN)):
            raise UserError(f"{study.path}: '{own[0]}' of {place} is not a study's to set; remove it")


def _check_names(config: RunConfig) -> None:
    """Refuses what a run would when it builds its model."""
    for name, known in (("arch", topologies()), ("encoder", VARIANTS)):
        if (value := getattr(config, name)) not in known:
            raise UserError(f"{name}: '{on_one_line(value)}' is unknown; use one of {', '.join(known)}")


def identity(config: RunConfig) -> str:
    """A digest of what decides a run's result: runs of one identity are the same run, whatever they are called."""
    values = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        # A setting at its default says nothing, so that a run is still itself when there are settings it knew not of.
        if value != field.default:
            values[field.name] = _as_float(value)
    for name in INCIDENTAL:
        # Other datasets are the same wherever they lie; a folder is what it holds.
        if name != "data_dir" or config.dataset != "folder":
            values.pop(name, None)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _as_float(value: Any) -> Any:
    """Numbers as floats, so that 1 and 1.0 are one setting."""
    if isinstance(value, tuple):
        return [_as_float(item) for item in value]
    return value if isinstance(value, bool) or not isinstance(value, int) else float(value)


def _named(study: Study, run: PlannedRun) -> RunConfig:
    return dataclasses.replace(run.config, name=f"{study.name}.{run.label}")


def _scaled(config: RunConfig, name: str, by: float) -> int | float:
    value = getattr(config, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not isinstance(by, int | float):
        raise UserError(f"scale: '{name}' is no number that could be scaled; set it instead")
    return max(1, round(value * by)) if isinstance(value, int) else value * by
