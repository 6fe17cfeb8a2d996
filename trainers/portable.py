"""What of a run says where things lie on this machine, as it may leave it: without that."""

import dataclasses
import re
from pathlib import PurePath

from trainers.config import RunConfig
from trainers.run_folder import RunFolder

_FOLDERS = ("data_dir", "prepared_dir", "cache_dir", "runs_dir")


def without_places(config: RunConfig) -> RunConfig:
    """A configuration without folders and files: they are of one machine, and a stranger's must not lead anywhere."""
    is_published = re.fullmatch(r"imagenet|(timm|keras_hub)/[\w.@-]+", config.pretrained or "")
    pretrained = config.pretrained if is_published else None
    return dataclasses.replace(_without_folders(config), pretrained=pretrained, init_from=None)


def with_names_of_weights(config: RunConfig) -> RunConfig:
    """A configuration without folders that still tells which weights it started from, by a file's or run's name."""
    pretrained, init_from = _last_part(config.pretrained), _last_part(config.init_from)
    return dataclasses.replace(_without_folders(config), pretrained=pretrained, init_from=init_from)


def _without_folders(config: RunConfig) -> RunConfig:
    return dataclasses.replace(config, **{name: getattr(RunConfig, name) for name in _FOLDERS})


def _last_part(source: str | None) -> str | None:
    return PurePath(source).name if source and PurePath(source).is_absolute() else source


def texts(run: RunFolder, config: RunConfig) -> dict[str, str]:
    """A run's configuration and its card, where it has one, by the files' names."""
    settings = without_places(config).to_json()
    if not run.card.is_file():
        return {run.config.name: settings}
    card, example = run.card.read_text(encoding="utf-8"), f'zoo.load("runs/{run.path.resolve().name}")'
    card = re.sub(r"(?<=## Settings\n```json\n).*?(?=\n```)", lambda _: settings.strip(), card, flags=re.DOTALL)
    card = re.sub(r'zoo\.load\(".*"\)', lambda _: example, card)
    return {run.config.name: settings, run.card.name: card}
