"""A corpus of bad files: each is used as it should be, or named in one line with the reason."""

import contextlib
import os
import resource
import signal

import numpy as np
import pytest

from mtl_keras import data
from mtl_keras.data import raw_files
from mtl_keras.data.examples import Example, decode_example
from mtl_keras.data.images import BadFile
from mtl_keras.data.raw_files import FileRules, RawSample
from mtl_keras.errors import UserError
from mtl_keras.inference import read_image
from tests.robustness.bad_files import AWKWARD_NAMES, SIZE, write_corpus
from trainers import inputs, predict

# Pillow warns of metadata that it passes over; the pixels are used.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

MOST_MEMORY = 1.5 * 2**30
RULES = {encoding: FileRules(19, encoding, 0.01, (4.0, 300.0)) for encoding in ("inverse", "linear", "disparity")}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    paths = write_corpus(tmp_path_factory.mktemp("corpus"))
    assert len(paths) >= 300
    return paths


@pytest.fixture(autouse=True)
def bounded():
    """Fails where a file hangs a reader, or makes it take a gibibyte and a half."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("hangs"))
    signal.alarm(120)
    yield
    signal.alarm(0)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    assert grown < MOST_MEMORY


def assert_one_line(message: str) -> None:
    assert message.isprintable() and len(message) < 600, repr(message)


def test_the_reader_uses_or_names_each(corpus):
    used = set()
    for path in corpus:
        try:
            image = read_image(path)
        except BadFile as error:
            assert_one_line(str(error))
            assert error.reason
        else:
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[-1] == 3, path
            used.add(path.name)
    for name in ("rgb.jpg", "rgb.png", "palette.png", "mode-CMYK.jpg", "animated.png", "transparent.png", "link.png"):
        assert name in used
    assert set(AWKWARD_NAMES) <= used
    strange = [name for name in used if name.startswith(("claims", "header", "empty", "really", "loop", "pipe"))]
    assert strange == ["claims-8192x8192.jpg"] * len(strange)


def test_what_is_read_is_what_the_file_shows(corpus):
    folder = corpus[0].parent
    np.testing.assert_array_equal(read_image(folder / "link.png"), read_image(folder / "rgb.png"))
    assert read_image(folder / "turned-6.jpg").shape == (SIZE[1], SIZE[0], 3)
    assert read_image(folder / "turned-9.jpg").shape == (*SIZE, 3)


@pytest.mark.parametrize("encoding", RULES)
def test_a_sample_of_any_files_is_an_example_or_names_them(corpus, encoding):
    folder = corpus[0].parent
    good = {"image": "rgb.png", "semseg": "labels.png", "depth": "depth.png"}
    for path in corpus:
        for role in good:
            files = {name: folder / file for name, file in good.items()} | {role: path}
            result = raw_files.read_example(RawSample("a", **files), RULES[encoding])
            if isinstance(result, Example):
                stored = {k: v.encode() if isinstance(v, str) else v for k, v in result.features().items()}
                sample = decode_example(stored)
                assert sample["image"].shape[:2] == sample["semseg"].shape == sample["depth_codes"].shape
                assert set(np.unique(sample["semseg"])) <= {*range(19), 255}
            else:
                assert result
                for bad in result:
                    assert_one_line(str(bad))


def test_predicting_a_folder_of_them_reads_or_names_each(corpus):
    folder = corpus[0].parent
    found, problems = inputs.find([str(folder)])
    progress = predict.Progress(failures=problems)
    frames = dict(predict.read(found, progress))
    assert len(frames) + len(progress.failures) == len(found)
    assert len(found) == len([path for path in corpus if not path.is_dir()])
    for name in ("loop.png", "dangling.png", "around.png", "pipe.png", "endless.png"):
        assert any(line.startswith(f"{folder / name}: ") for line in progress.failures), name
    assert len(frames) >= len(AWKWARD_NAMES) and {"link", "rgb_png"} <= set(frames)
    for line in progress.failures:
        assert_one_line(line)
    outputs = [folder.parent / "out" / f"{name}.png" for name in frames]
    assert len(set(outputs)) == len(outputs)
    assert all(folder.parent / "out" in path.resolve().parents for path in outputs)


@pytest.mark.parametrize("name", ["loop.png", "dangling.png", "folder.png", "pipe.png", "endless.png", "no\nsuch.png"])
def test_what_is_no_file_is_named_when_it_is_asked_for(corpus, name):
    found, problems = inputs.find([str(corpus[0].parent / name)])
    progress = predict.Progress(failures=problems)
    assert not list(predict.read(found, progress)) and len(progress.failures) == 1
    assert_one_line(progress.failures[0])


def write_source(root, corpus) -> int:
    """A Miniscapes source of the corpus: as images, and as the labels of good images; returns how many samples."""
    train = root / "train"
    for kind in ("rgb", "semseg", "depth"):
        (train / kind).mkdir(parents=True)
    good = (corpus[0].parent / "rgb.png").read_bytes()
    count = 0
    for number, path in enumerate(corpus):
        if path.suffix == ".jpg" or path.name in AWKWARD_NAMES or number % 3 == 0:
            os.symlink(path, train / "rgb" / path.name)
        else:
            kind = "semseg" if number % 3 == 1 else "depth"
            (train / "rgb" / f"{number}.png").write_bytes(good)
            os.symlink(path, train / kind / f"{number}.png")
        count += 1
    return count


def test_preparation_goes_on_without_them_or_lists_every_one(corpus, tmp_path):
    count = write_source(tmp_path / "source", corpus)
    where = {"data_dir": tmp_path / "source", "prepared_dir": tmp_path / "prepared"}
    with pytest.raises(UserError) as error:
        data.load("miniscapes", "train", **where)
    headline, *lines = str(error.value).split("\n")
    for line in (headline, *lines):
        assert_one_line(line)
    dataset = data.load("miniscapes", "train", skip_bad_files=True, **where)
    assert len(dataset.bad_files) == len(lines) and str(len(lines)) in headline
    assert len(dataset) >= len(AWKWARD_NAMES) and len(dataset) + len(lines) >= count
    for index in range(len(dataset)):
        sample = dataset[index]
        assert sample["image"].shape[:2] == sample["semseg"].shape
    with contextlib.suppress(OSError):
        assert not list(tmp_path.glob("prepared/**/*incomplete*"))
