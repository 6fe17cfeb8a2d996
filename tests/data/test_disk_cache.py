import json
import logging
import pickle
import weakref

import numpy as np
import pytest

from mtl_keras import data
from mtl_keras.data import disk_cache
from mtl_keras.data.disk_cache import open_disk_cache
from mtl_keras.errors import UserError


@pytest.fixture
def dataset(miniscapes_dir, tmp_path):
    return data.load("miniscapes", "val", data_dir=miniscapes_dir, prepared_dir=tmp_path / "prepared")


@pytest.fixture
def decoded(monkeypatch):
    """How many samples were decoded to write caches."""
    calls = []
    write = disk_cache._write
    monkeypatch.setattr(
        disk_cache, "_write", lambda dataset, *args: (calls.append(len(dataset)), write(dataset, *args))
    )
    return calls


def assert_holds(cache, dataset):
    assert len(cache) == len(dataset)
    for i in range(len(dataset)):
        for name, value in dataset[i].items():
            np.testing.assert_array_equal(cache[i][name], value)


def test_it_is_written_once(dataset, tmp_path, decoded):
    assert_holds(open_disk_cache(dataset, tmp_path / "cache"), dataset)
    assert_holds(open_disk_cache(dataset, tmp_path / "cache"), dataset)
    assert decoded == [5]


def test_its_size_is_told_before_it_is_written(dataset, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        open_disk_cache(dataset, tmp_path / "cache")
    assert "168.8 KiB" in caplog.text  # 5 samples of 72 · 96 px, 5 bytes each


@pytest.mark.parametrize("change", ["format", "dataset", "samples", "fingerprint", None])
def test_a_cache_of_something_else_is_written_anew(dataset, tmp_path, decoded, change):
    open_disk_cache(dataset, tmp_path / "cache")
    (index,) = (tmp_path / "cache").rglob("index.json")
    content = json.loads(index.read_text())
    content["made_of"] = content["made_of"] | {change: 77} if change else 77
    index.write_text(json.dumps(content))
    assert_holds(open_disk_cache(dataset, tmp_path / "cache"), dataset)
    assert decoded == [5, 5]


@pytest.mark.parametrize("name", ["samples.bin", "index.json"])
def test_a_damaged_cache_is_written_anew(dataset, tmp_path, decoded, name):
    open_disk_cache(dataset, tmp_path / "cache")
    (path,) = (tmp_path / "cache").rglob(name)
    path.write_bytes(path.read_bytes()[:-100])
    assert_holds(open_disk_cache(dataset, tmp_path / "cache"), dataset)
    assert decoded == [5, 5]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sizes", [[72, 9600]] * 5),
        ("sizes", [[-72, -96]] * 5),
        ("offsets", [-8] * 5),
        ("offsets", [2**70] * 5),
        ("ids", ["0"]),
        ("depth_dtypes", [8]),
    ],
)
def test_an_index_that_does_not_fit_its_samples_is_not_believed(dataset, tmp_path, decoded, caplog, name, value):
    open_disk_cache(dataset, tmp_path / "cache")
    (index,) = (tmp_path / "cache").rglob("index.json")
    index.write_text(json.dumps(json.loads(index.read_text()) | {name: value}))
    assert_holds(open_disk_cache(dataset, tmp_path / "cache"), dataset)
    assert decoded == [5, 5]
    assert sum("will be written anew" in record.getMessage() for record in caplog.records) == 1


def test_a_source_that_changed_gets_a_new_cache(dataset, miniscapes_dir, tmp_path, decoded):
    open_disk_cache(dataset, tmp_path / "cache")
    (miniscapes_dir / "val" / "depth" / "0.png").unlink()
    changed = data.load("miniscapes", "val", data_dir=miniscapes_dir, prepared_dir=tmp_path / "prepared")
    assert_holds(open_disk_cache(changed, tmp_path / "cache"), changed)
    assert decoded == [5, 5]


def test_an_interruption_leaves_nothing_that_is_read(dataset, tmp_path, monkeypatch):
    class Interrupted(BaseException):
        pass

    def interrupted(dataset, folder, made_of):
        (folder / "samples.bin").write_bytes(b"half")
        raise Interrupted

    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(disk_cache, "_write", interrupted)
        open_disk_cache(dataset, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("samples.bin"))
    # A kill leaves even what is cleared away above.
    (tmp_path / "cache" / f"{dataset.full_name.replace('/', '-')}-val.unfinished").mkdir()
    assert_holds(open_disk_cache(dataset, tmp_path / "cache"), dataset)
    assert not list((tmp_path / "cache").glob("*unfinished*"))


def test_a_full_disk_is_noticed_before_writing(dataset, tmp_path, monkeypatch):
    usage = disk_cache.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(disk_cache.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="1000 B are free"):
        open_disk_cache(dataset, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("samples.bin"))


def test_memory_that_does_not_suffice_is_noticed_before_reading(dataset, monkeypatch):
    monkeypatch.setattr(data.cache, "_free_memory", lambda: 1000)
    with pytest.raises(UserError, match="--cache=disk"):
        data.open_cache(dataset, "ram")


def test_memory_that_does_not_suffice_for_all_splits_together_is_noticed(dataset, monkeypatch):
    needed = data.cache.decoded_bytes(dataset)
    monkeypatch.setattr(data.cache, "_open_caches", weakref.WeakSet())
    monkeypatch.setattr(data.cache, "_free_memory", lambda: 3 * needed // 2)
    first = data.open_cache(dataset, "ram")
    with pytest.raises(UserError, match="the other open splits .* are free: use --cache=disk"):
        data.open_cache(dataset, "ram")
    for index in range(len(first)):
        first[index]
    assert data.open_cache(dataset, "ram")


def test_processes_map_the_same_file(dataset, tmp_path):
    cache = open_disk_cache(dataset, tmp_path / "cache")
    pickled = pickle.dumps(cache)
    assert len(pickled) < 2000 < cache[0]["image"].nbytes  # the file's place travels, not its content
    assert_holds(pickle.loads(pickled), dataset)


def test_samples_are_windows_on_the_file_and_cannot_be_changed(dataset, tmp_path):
    sample = open_disk_cache(dataset, tmp_path / "cache")[1]
    assert not sample["image"].flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        sample["image"][0, 0] = 0


def test_images_of_many_sizes_lie_in_one_cache(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for kind in ("images", "labels", "depth"):
        (tmp_path / "source" / "train" / kind).mkdir(parents=True)
    for i, size in enumerate([(33, 47), (5, 7), (64, 3)]):
        for kind, array in (
            ("images", rng.integers(0, 256, (*size, 3), np.uint8)),
            ("labels", rng.integers(0, 2, size, np.uint8)),
            ("depth", rng.integers(0, 65536, size).astype(np.uint16)),
        ):
            Image.fromarray(array).save(tmp_path / "source" / "train" / kind / f"{i}.png")
    (tmp_path / "source" / "dataset.toml").write_text('classes = ["a", "b"]\ndepth_scale = 0.001')
    mixed = data.load("folder", "train", data_dir=tmp_path / "source", prepared_dir=tmp_path / "prepared")
    assert mixed.pixels == 33 * 47 + 5 * 7 + 64 * 3
    assert data.cache.decoded_bytes(mixed) == sum(data.cache.sample_bytes(mixed[index]) for index in range(3))
    assert_holds(open_disk_cache(mixed, tmp_path / "cache"), mixed)
