"""From a dataset's name to a split that can be read, prepared on first use."""

import errno
import inspect
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from mtl_keras.data.builder import bad_files_error
from mtl_keras.data.cityscapes import Cityscapes, CityscapesConfig
from mtl_keras.data.dataset import Dataset, no_split, telling_of_damage
from mtl_keras.data.folder import Folder, FolderConfig
from mtl_keras.data.folders import locked, remove_all
from mtl_keras.data.images import BadFile
from mtl_keras.data.miniscapes import Miniscapes, MiniscapesConfig
from mtl_keras.data.spec import SPLITS
from mtl_keras.data.streets import Streets
from mtl_keras.errors import UserError

_OF_FILES: dict[str, tuple[Any, Any]] = {
    "miniscapes": (Miniscapes, MiniscapesConfig),
    "cityscapes": (Cityscapes, CityscapesConfig),
    "folder": (Folder, FolderConfig),
}
NAMES = ("streets", *_OF_FILES)

logger = logging.getLogger(__name__)


def load(
    name: str,
    split: str,
    *,
    data_dir: str | Path | None = None,
    prepared_dir: str | Path | None = None,
    skip_bad_files: bool = False,
    **options: Any,
) -> Dataset:
    """Opens a split, after preparing the dataset if it is not prepared yet.

    Args:
        name: "streets" (which means "streets/demo"), "streets/medium", "streets/full", "streets/pretraining",
            "miniscapes", "cityscapes" or "folder".
        split: "train", "val" or "test".
        data_dir: the source's folder; streets has none. A source that changed is prepared anew, beside the old data.
            May be left out where exactly one preparation of the dataset exists.
        prepared_dir: where prepared data is kept; by default TFDS's folder (`TFDS_DATA_DIR`, or
            `~/tensorflow_datasets`).
        skip_bad_files: go on without the samples that have a bad file, instead of listing these files in an error.
        **options: of the dataset: `image_size` and `depth_range` for cityscapes.

    Raises:
        UserError: unknown name, split or option, missing source, files that cannot be used, or a full disk.
    """
    source: dict[str, Any] = {"data_dir": data_dir, "prepared_dir": prepared_dir, "skip_bad_files": skip_bad_files}
    return load_splits(name, (split,), **source, **options)[split]


def load_splits(
    name: str,
    splits: Sequence[str] | None = None,
    *,
    before_preparing: Callable[[], object] | None = None,
    skip_bad_files: bool = False,
    **arguments: Any,
) -> dict[str, Dataset]:
    """Opens several splits, or every one that the dataset has, by name.

    Args:
        name: as for `load`.
        splits: which ones; all if None.
        before_preparing: called if the dataset is to be prepared, which can take an hour; what it raises prevents that.
        skip_bad_files: as for `load`.
        **arguments: as for `load`.

    Raises:
        UserError: as for `load`.
    """
    builder = make_builder(name, skip_bad_files=skip_bad_files, **arguments)
    source = {} if isinstance(builder, Path) else builder.jobs()
    for split in splits or ():
        if source and split not in source:
            raise no_split(builder.name, split, source)
    if before_preparing and not isinstance(builder, Path) and not _is_prepared(Path(builder.data_path)):
        before_preparing()
    path = prepare(builder)
    with telling_of_damage(path):
        info = tfds.builder_from_directory(path).info
        prepared, bad_files = [split for split in SPLITS if split in info.splits], info.metadata["bad_files"]
    _report_bad_files(info, bad_files, skip_bad_files)
    for split in splits or ():
        if split in source and split not in prepared:
            count = len(source[split])
            raise UserError(f"{info.full_name}: all {count} samples of {split} have bad files: mend some of them")
    return {split: Dataset(path, split) for split in splits or prepared}


def make_builder(
    name: str,
    *,
    data_dir: str | Path | None = None,
    prepared_dir: str | Path | None = None,
    skip_bad_files: bool = False,
    **options: Any,
) -> Any:
    """The TFDS builder of a dataset, or the path of its only preparation where no source is given.

    Raises:
        UserError: as for `load`.
    """
    dataset, _, config = name.partition("/")
    if dataset not in NAMES or (config and dataset != "streets"):
        raise UserError(f'unknown dataset "{name}": expected one of {", ".join(NAMES)}')
    shared: dict[str, Any] = {"skip_bad_files": skip_bad_files}
    if prepared_dir is not None:
        shared["data_dir"] = os.path.expanduser(prepared_dir)
    if dataset == "streets":
        if data_dir is not None:
            files = "folder, miniscapes or cityscapes"
            raise UserError(f"streets reads no files: leave data_dir out, or add --dataset={files}")
        return _streets(config or "demo", options, shared)
    if data_dir is None:
        if options:
            raise UserError(f"{dataset} needs data_dir where {', '.join(options)} is given: add --data_dir=PATH")
        return _only_preparation(dataset, prepared_dir)
    data_dir = Path(data_dir).expanduser()
    if not data_dir.is_dir():
        raise UserError(
            f"data_dir {data_dir} is no folder: expected the one of {dataset}'s raw files; where they are gone and one "
            "preparation of them is left, give --data_dir=none"
        )
    return _from_source(dataset, data_dir, options, shared)


def prepare(builder: Any) -> Path:
    """Prepares a builder's dataset unless it is prepared; one process at a time, the others wait for it.

    Args:
        builder: what `make_builder` gave: a builder, or the path of a preparation.

    Returns:
        The prepared folder.

    Raises:
        UserError: bad files, a full disk, or a worker process that was killed.
    """
    if isinstance(builder, Path):
        return builder
    path = Path(builder.data_path)
    if _is_prepared(path):
        return path
    try:
        with locked(path.parent):
            # Nobody else is preparing, so what lies incomplete was interrupted.
            for leftover in remove_all(path.parent, "incomplete.*"):
                logger.warning("removed an interrupted preparation: %s", leftover)
            if not _is_prepared(path):
                builder.download_and_prepare()
    except BrokenExecutor as error:
        raise UserError(
            f"cannot prepare {builder.name}: a worker process was killed, most likely for want of memory; start again "
            "with more memory, or on fewer cores (taskset --cpu-list 0 python …)"
        ) from error
    except OSError as error:
        reason = "no space left" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise UserError(
            f"cannot prepare {builder.name} in {path.parent} ({reason}): choose another folder with --prepared_dir"
        ) from error
    return path


def _is_prepared(path: Path) -> bool:
    # TFDS renames the folder when it is complete, and writes this file last before that.
    return (path / "dataset_info.json").is_file()


def _streets(config: str, options: dict[str, Any], shared: dict[str, Any]) -> Any:
    if options:
        raise UserError(f"streets has no option {', '.join(options)}: choose a configuration such as streets/full")
    if config not in Streets.builder_configs:
        known = ", ".join(f"streets/{known}" for known in Streets.builder_configs)
        raise UserError(f'unknown dataset "streets/{config}": expected one of {known}')
    return Streets(config=config, **shared)


def _from_source(dataset: str, data_dir: Path, options: dict[str, Any], shared: dict[str, Any]) -> Any:
    builder, config = _OF_FILES[dataset]
    if unknown := sorted(set(options) - set(inspect.signature(config.from_source).parameters)):
        raise UserError(f"{dataset} does not take {', '.join(unknown)}: leave that out")
    return builder(config=config.from_source(data_dir, **options), **shared)


def _only_preparation(dataset: str, prepared_dir: str | Path | None) -> Path:
    root = Path(prepared_dir or tfds.core.constants.DATA_DIR).expanduser()
    # TFDS's own dataset of the same name has no metadata.
    found = sorted(path.parent for path in root.glob(f"{dataset}/*/[0-9]*/metadata.json"))
    if len(found) == 1:
        return found[0]
    state = f"{len(found)} preparations of it lie" if found else "no preparation of it lies"
    raise UserError(f"{dataset} needs data_dir, the folder of its source ({state} under {root}): add --data_dir=PATH")


def _report_bad_files(info: Any, bad_files: list[list[str]], skip_bad_files: bool) -> None:
    if not bad_files:
        return
    if not skip_bad_files:
        raise bad_files_error(info.name, [BadFile(*file) for file in bad_files])
    logger.warning("%s: bad files left out: %d", info.full_name, len(bad_files))
