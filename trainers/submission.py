"""Archives of predictions, written by `trainers.evaluate --submission` and read back here.

`python -m trainers.submission ARCHIVE` checks every file of an archive and scores it where the split has labels.

An archive holds `predictions/semseg/<id>.png` (palette of train ids), `predictions/depth/<id>.png` (8-bit inverse depth
as Miniscapes has it, or, of models of other depth than 4–300 m, 16-bit metres × 256), `metrics.json`, `config.json` and
`README.md`. What is no ASCII letter, digit, `_`, `.`, `-` or `~` in an id is escaped as in a URL, so that no two ids
get one name. Predictions cover what is evaluated: the whole image, cut from the top-left corner to multiples of 32
pixels. No file names a folder of the machine that wrote it: where the dataset is not prepared in TFDS's folder, give
`--data_dir` or `--prepared_dir`.
"""

import contextlib
import json
import re
import urllib.parse
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from mtl_keras.data import Dataset
from mtl_keras.data.depth_encoding import decode_depth
from mtl_keras.data.images import BadFile, open_image, require_mode
from mtl_keras.data.raw_files import GREY_16
from mtl_keras.data.spec import IGNORE_LABEL, DataSpec
from mtl_keras.data.views import EvalView
from mtl_keras.errors import UserError
from mtl_keras.evaluation import Evaluation
from mtl_keras.files import replacing
from mtl_keras.inference import Prediction
from mtl_keras.prediction_files import DEPTH_UNITS_PER_METRE, depth_8_png, depth_16_png, fits_8_bits, semseg_png
from trainers import cli, data_flags, portable
from trainers.config import checked_config

FLAGS = flags.FLAGS

KINDS = ("semseg", "depth")
# More than a prediction of the largest image that is read takes; what claims to be larger is not unpacked.
MOST_BYTES = 128 * 2**20
# What reading a member of a damaged or encrypted archive raises.
_UNREADABLE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError)
_MEMBER = re.compile(r"predictions/(semseg|depth)/[A-Za-z0-9_.~%-]+\.png")


class Archive:
    """An archive that is being written."""

    def __init__(self, file: zipfile.ZipFile, spec: DataSpec):
        self.file = file
        self.spec = spec

    def add(self, ids: Sequence[str], predictions: Sequence[Prediction]) -> None:
        """Adds the predictions of a batch; those beyond its ids are of padding."""
        depth_png = depth_8_png if fits_8_bits(self.spec) else depth_16_png
        for name, prediction in zip(ids, predictions, strict=False):
            self.file.writestr(member("semseg", name), semseg_png(prediction.semseg, self.spec))
            self.file.writestr(member("depth", name), depth_png(prediction.depth))

    def add_texts(self, texts: Mapping[str, str]) -> None:
        """Adds text files by their names, at the archive's top."""
        for name, text in texts.items():
            self.file.writestr(name, text)


def member(kind: str, sample_id: str) -> str:
    """The name of a sample's prediction within an archive."""
    return f"predictions/{kind}/{urllib.parse.quote(sample_id, safe='')}.png"


@contextlib.contextmanager
def writing(path: Path, spec: DataSpec) -> Iterator[Archive]:
    """Writes an archive, whole or not at all."""
    # PNG files are compressed already.
    with replacing(path) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as file:
        yield Archive(file, spec)


def check(path: Path, dataset: Dataset) -> tuple[list[str], Any]:
    """Reads an archive back, without extracting anything, and scores it.

    Args:
        path: the archive.
        dataset: the split whose samples it must hold.

    Returns:
        What is wrong, a line each, and an `Evaluation` of the predictions that are right.

    Raises:
        UserError: it is no zip file.
    """
    evaluation, view = Evaluation(dataset.spec), EvalView()
    with _open(path) as file:
        problems, members = _listed(file)
        for index in range(len(dataset)):
            sample = view(dataset[index])
            found = {kind: members.pop(member(kind, sample["id"]), None) for kind in KINDS}
            maps = {kind: _read(problems, file, kind, found[kind], sample, dataset.spec) for kind in KINDS}
            if maps["semseg"] is not None:
                evaluation.semseg.add(sample["semseg"], maps["semseg"])
            if maps["depth"] is not None:
                evaluation.depth.add(dataset.metres(sample), maps["depth"])
    problems += [f"{name}: {dataset.full_name} {dataset.split} has no such sample" for name in sorted(members)]
    return problems, evaluation


def read_json(path: Path, name: str) -> dict[str, Any]:
    """A JSON file at the archive's top; empty if it is not there."""
    with _open(path) as file:
        try:
            info = file.getinfo(name)
            facts = json.loads(file.read(info)) if info.file_size <= MOST_BYTES else {}
            return facts if isinstance(facts, dict) else {}
        except (KeyError, ValueError, RecursionError, *_UNREADABLE):
            return {}


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (ValueError, *_UNREADABLE) as error:
        raise UserError(f"{path}: cannot be read as a zip file ({error}); give a submission.zip") from None


def _listed(file: zipfile.ZipFile) -> tuple[list[str], dict[str, zipfile.ZipInfo]]:
    """Members that lie under `predictions/`, and what is wrong with their names and sizes."""
    problems, members = [], {}
    for info in file.infolist():
        if info.is_dir() or "/" not in info.filename:
            continue
        if not _MEMBER.fullmatch(info.filename):
            problems.append(f"{info.filename!r}: not the name of a prediction (predictions/semseg/<id>.png)")
        elif info.file_size > MOST_BYTES:
            problems.append(f"{info.filename}: {info.file_size} bytes, more than a prediction can have")
        elif info.filename in members:
            problems.append(f"{info.filename}: twice in the archive")
        else:
            members[info.filename] = info
    return problems, members


def _read(problems: list[str], file: zipfile.ZipFile, kind: str, info, sample, spec: DataSpec) -> np.ndarray | None:
    """A sample's train ids or metres, or None and one more problem."""
    name = member(kind, sample["id"])
    if info is None:
        problems.append(f"{name}: missing")
        return None
    try:
        image = open_image(file.read(info), name)
        modes = ("P", "L") if kind == "semseg" else ("L", *GREY_16)
        require_mode(image, modes, "8-bit palette or grey" if kind == "semseg" else "8- or 16-bit grey", name)
        codes = np.asarray(image)
        if codes.shape != sample["semseg"].shape:
            height, width = sample["semseg"].shape
            raise BadFile(name, f"{codes.shape[0]}×{codes.shape[1]} px, expected {height}×{width}")
        if kind == "semseg" and np.any((codes >= spec.num_classes) & (codes != IGNORE_LABEL)):
            raise BadFile(name, f"ids up to {codes.max()}, expected train ids 0–{spec.num_classes - 1}")
        if kind == "semseg" and np.any((codes == IGNORE_LABEL) & (sample["semseg"] != IGNORE_LABEL)):
            raise BadFile(name, "pixels without a class")
        if kind == "depth" and not codes.all():
            raise BadFile(name, "pixels without depth")
    except (BadFile, *_UNREADABLE) as error:
        problems.append(str(error) if isinstance(error, BadFile) else f"{name}: cannot be unpacked ({error})")
        return None
    if kind == "semseg":
        return codes
    if codes.dtype == np.uint8:
        return decode_depth(codes, "inverse")
    return (codes / DEPTH_UNITS_PER_METRE).astype(np.float32)


def main(arguments: list[str]) -> int | None:
    if len(arguments) != 1:
        raise UserError("give one archive, such as `python -m trainers.submission submission.zip`")
    path = Path(arguments[0])
    settings = read_json(path, "config.json")
    if not settings and not FLAGS.dataset:
        raise UserError(f"{path}: holds no config.json, which would name a dataset; add --dataset=NAME")
    config = portable.without_places(checked_config(settings, path))
    about = read_json(path, "metrics.json").get("about")
    split = FLAGS.split or str(about.get("split", "test") if isinstance(about, dict) else "test")
    dataset = data_flags.load(config, split)
    problems, evaluation = check(path, dataset)
    for problem in problems:
        print(problem)
    results = evaluation.results()
    scored = results["semseg"]["pixels"] or results["depth"]["pixels"]
    print(f"{path}: {len(dataset)} samples of {dataset.full_name} {dataset.split}, {len(problems)} problems")
    if scored:
        print(f"grader {results['grader']:.2f}  mIoU {results['miou']:.2f} %  SI-logRMSE {results['silog']:.2f}")
    else:
        print("not scored: " + ("no prediction is usable" if dataset.tasks else "this split has no labels"))
    return 1 if problems else None


if __name__ == "__main__":
    flags.DEFINE_enum("split", None, ["train", "val", "test"], "the split; that of the archive's metrics by default")
    data_flags.define(dataset="the dataset; that of the archive's config.json by default")
    cli.launch(main, takes_arguments=True)
