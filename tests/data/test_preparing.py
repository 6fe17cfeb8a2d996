import errno
import os
import shutil
import struct
import subprocess
import sys
import textwrap
import zlib

import numpy as np
import pytest
from PIL import Image

from mtl_keras import data
from mtl_keras.data.dataset import telling_of_damage
from mtl_keras.errors import UserError
from tests.data.conftest import png_of


def png_bomb(width, height):
    """A grey PNG of few bytes that claims a size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return png_of([(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")])


def save(path, array):
    Image.fromarray(array).save(path)


def damage(source):
    """One file of every kind that cannot be used, and a part of the reason that must be given."""
    train = source / "train"
    whole = (train / "rgb" / "0.jpg").read_bytes()
    (train / "rgb" / "0.jpg").write_bytes(whole[: len(whole) // 2])
    (train / "rgb" / "1.jpg").write_bytes(b"")
    (train / "rgb" / "2.jpg").write_bytes(b"no image at all")
    save(train / "rgb" / "3.jpg", np.zeros((72, 96), np.uint8))
    save(train / "semseg" / "4.png", np.full((72, 96), 19, np.uint8))
    save(train / "semseg" / "5.png", np.zeros((71, 96), np.uint8))
    save(train / "depth" / "6.png", np.zeros((72, 96), np.uint16))
    (train / "depth" / "7.png").write_bytes(png_bomb(40_000, 40_000))
    (train / "semseg" / "8.png").write_bytes(png_bomb(8_193, 16))
    png = (train / "semseg" / "9.png").read_bytes()
    (train / "semseg" / "9.png").write_bytes(png[:-40])
    return {
        "rgb/0.jpg": "truncated",
        "rgb/1.jpg": "empty",
        "rgb/2.jpg": "not a PNG or JPEG",
        "rgb/3.jpg": "mode L",
        "semseg/4.png": "label ids 19",
        "semseg/5.png": "71×96",
        "depth/6.png": "mode I;16",
        "depth/7.png": "8192 px a side",
        "semseg/8.png": "8192 px a side",
        "semseg/9.png": "truncated",
    }


def test_what_is_prepared_is_what_the_files_hold(miniscapes_dir, tmp_path):
    dataset = data.load("miniscapes", "train", data_dir=miniscapes_dir, prepared_dir=tmp_path)
    assert [dataset.id(i) for i in range(11)] == [str(i) for i in range(11)]
    for i in range(11):
        sample = dataset[i]
        image = np.asarray(Image.open(miniscapes_dir / "train" / "rgb" / f"{i}.jpg"))
        np.testing.assert_array_equal(sample["image"], image)
        for name, kind in (("semseg", "semseg"), ("depth_codes", "depth")):
            path = miniscapes_dir / "train" / kind / f"{i}.png"
            missing = np.full((72, 96), 255 if kind == "semseg" else 0, np.uint8)
            np.testing.assert_array_equal(sample[name], np.asarray(Image.open(path)) if path.exists() else missing)
    test = data.load("miniscapes", "test", data_dir=miniscapes_dir, prepared_dir=tmp_path)
    assert len(test) == 2 and (test[0]["semseg"] == 255).all() and (test.metres(test[0]) == 0).all()


def test_preparing_leaves_nothing_in_the_temporary_folder(miniscapes_dir, tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    data.load("miniscapes", "train", data_dir=miniscapes_dir, prepared_dir=tmp_path / "prepared")
    assert not any(temporary.iterdir())


def test_samples_are_counted_as_in_a_list(prepared):
    dataset = prepared["val"]
    ids = [dataset[index]["id"] for index in range(len(dataset))]
    assert [dataset[index]["id"] for index in range(-len(ids), 0)] == ids
    assert [sample["id"] for sample in dataset] == ids
    for index in (len(ids), -len(ids) - 1):
        with pytest.raises(IndexError, match=f"sample {index} of {len(ids)}"):
            dataset[index]
    with pytest.raises(TypeError, match="slice"):
        dataset[:2]


def test_published_depth_statistics_are_kept_and_measured_ones_lie_beside(prepared):
    dataset = prepared["train"]
    assert (dataset.spec.depth_mean, dataset.spec.depth_std) == (27.0727, 29.1264)
    metres = np.concatenate([dataset.metres(dataset[i]).ravel() for i in range(len(dataset))]).astype(np.float64)
    metres = metres[metres > 0]
    assert dataset.measured_depth == pytest.approx({"depth_mean": metres.mean(), "depth_std": metres.std()})


def test_all_bad_files_are_listed_at_once_and_nothing_is_left(miniscapes_dir, tmp_path):
    reasons = damage(miniscapes_dir)
    with pytest.raises(UserError) as error:
        data.load("miniscapes", "val", data_dir=miniscapes_dir, prepared_dir=tmp_path / "prepared")
    headline, *lines = str(error.value).splitlines()
    assert headline.startswith("10 files of miniscapes") and "--skip_bad_files" in headline
    assert len(lines) == len(reasons)
    for file, reason in reasons.items():
        (line,) = (line for line in lines if f"train/{file}" in line)
        assert reason in line
    assert not list((tmp_path / "prepared").rglob("*.json"))
    assert not list((tmp_path / "prepared").rglob("*array_record*"))


def test_bad_files_are_skipped_if_asked_and_remembered(miniscapes_dir, tmp_path):
    damage(miniscapes_dir)
    where = {"data_dir": miniscapes_dir, "prepared_dir": tmp_path}
    dataset = data.load("miniscapes", "train", skip_bad_files=True, **where)
    assert [dataset.id(i) for i in range(len(dataset))] == ["10"] and len(dataset.bad_files) == 10
    assert len(data.load("miniscapes", "val", skip_bad_files=True, **where)) == 5
    with pytest.raises(UserError, match="10 files"):
        data.load("miniscapes", "train", **where)


def test_a_split_whose_samples_are_all_bad_is_no_split_that_is_not_there(miniscapes_dir, tmp_path):
    for path in (miniscapes_dir / "val" / "rgb").iterdir():
        path.write_bytes(b"")
    where = {"data_dir": miniscapes_dir, "prepared_dir": tmp_path}
    with pytest.raises(UserError, match="all 5 samples of val have bad files: mend some of them"):
        data.load("miniscapes", "val", skip_bad_files=True, **where)
    assert len(data.load("miniscapes", "train", skip_bad_files=True, **where)) == 11
    with pytest.raises(UserError, match="5 files of miniscapes cannot be used"):
        data.load("miniscapes", "val", **where)


def test_images_that_share_an_id_are_listed_and_may_be_skipped(miniscapes_dir, tmp_path):
    rgb = miniscapes_dir / "train" / "rgb"
    save(rgb / "4.png", np.asarray(Image.open(rgb / "4.jpg")))
    where = {"data_dir": miniscapes_dir, "prepared_dir": tmp_path}
    with pytest.raises(UserError) as error:
        data.load("miniscapes", "train", **where)
    _, *lines = str(error.value).splitlines()
    reason = "another file has the id 4 too: keep one"
    assert [line.strip() for line in lines] == [f"{rgb / '4.jpg'}: {reason}", f"{rgb / '4.png'}: {reason}"]
    skipped = data.load("miniscapes", "train", skip_bad_files=True, **where)
    assert [skipped.id(i) for i in range(len(skipped))] == [str(i) for i in range(11) if i != 4]
    (rgb / "4.png").unlink()
    assert len(data.load("miniscapes", "train", **where)) == 11


def test_pictures_in_other_formats_are_named_and_labels_of_no_image_told(miniscapes_dir, tmp_path, caplog):
    train = miniscapes_dir / "train"
    for path, format in (
        ("rgb/0.jpg", "webp"),
        ("semseg/3.png", "bmp"),
        ("depth/4.png", "tiff"),
        ("semseg/5.png", "jpg"),
    ):
        with Image.open(train / path) as image:
            image.convert("L" if "rgb" not in path else "RGB").save((train / path).with_suffix(f".{format}"))
        (train / path).unlink()
    np.save(train / "depth" / "6.npy", np.zeros((72, 96)))  # beside 6.png, which is what is read
    (train / "semseg" / "7.png").rename(train / "semseg" / "000007.png")
    (train / "rgb" / "notes.txt").touch()
    with pytest.raises(UserError) as error:
        data.load("miniscapes", "train", data_dir=miniscapes_dir, prepared_dir=tmp_path / "prepared")
    _, *lines = str(error.value).splitlines()
    assert sorted(line.strip().removeprefix(f"{train}/") for line in lines) == [
        "depth/4.tiff: not a PNG or JPEG image",
        "rgb/0.webp: not a PNG or JPEG image",
        "semseg/3.bmp: not a PNG or JPEG image",
        "semseg/5.jpg: JPEG, expected PNG",
    ]
    told = [record.getMessage() for record in caplog.records if record.name == "mtl_keras.data.raw_files"]
    assert told == [f"passed over labels of no image: {train / 'semseg' / '000007.png'}"]


def test_hidden_files_are_passed_over(miniscapes_dir, tmp_path):
    before = data.load("miniscapes", "train", data_dir=miniscapes_dir, prepared_dir=tmp_path)
    for name in ("rgb/._1.jpg", "rgb/.DS_Store", "semseg/._1.png", "depth/._1.png"):
        (miniscapes_dir / "train" / name).write_bytes(b"resource fork")
    after = data.load("miniscapes", "train", data_dir=miniscapes_dir, prepared_dir=tmp_path)
    assert after.path == before.path and len(after) == 11


@pytest.mark.parametrize("kind", ["cut", "scribbled", "gone"])
@pytest.mark.parametrize("cache", ["none", "ram", "disk"])
def test_damaged_prepared_data_is_to_be_deleted(miniscapes_dir, tmp_path, kind, cache):
    where = {"data_dir": miniscapes_dir, "prepared_dir": tmp_path / "prepared"}
    dataset = data.load("miniscapes", "train", **where)
    (shard,) = dataset.path.glob("*train.array_record*")
    if kind == "cut":
        os.truncate(shard, 1000)
    elif kind == "scribbled":
        content = bytearray(shard.read_bytes())
        content[len(content) // 3 :: 100] = bytes(len(content[len(content) // 3 :: 100]))
        shard.write_bytes(content)
    else:
        shard.unlink()
    with pytest.raises(UserError, match="prepared data is gone or damaged .*: delete this folder") as error:
        samples = data.open_cache(data.load("miniscapes", "train", **where), cache)
        for i in range(len(samples)):
            samples[i]
    assert str(error.value).startswith(f"{dataset.path}:") and "\n" not in str(error.value)
    shutil.rmtree(dataset.path)
    assert data.load("miniscapes", "train", **where)[10]["image"].shape == (72, 96, 3)


@pytest.mark.parametrize("name", ["dataset_info.json", "metadata.json", "features.json"])
@pytest.mark.parametrize("content", [b"", b"{}", b'{"splits": [', b"\xff\x00", b"[" * 100_000])
def test_what_damaged_prepared_data_says_of_itself_is_not_believed(miniscapes_dir, tmp_path, name, content):
    where = {"data_dir": miniscapes_dir, "prepared_dir": tmp_path / "prepared"}
    path = data.load("miniscapes", "train", **where).path
    (path / name).write_bytes(content)
    for read in (lambda: data.load("miniscapes", "train", **where), lambda: data.load_splits("miniscapes", **where)):
        with pytest.raises(UserError, match="prepared data is gone or damaged .*: delete this folder") as error:
            read()
        assert str(error.value).startswith(f"{path}:") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "trouble",
    [PermissionError(errno.EACCES, "denied"), OSError(errno.EMFILE, "too many"), ImportError(), MemoryError()],
)
def test_trouble_that_is_no_damage_does_not_have_the_data_deleted(trouble):
    with pytest.raises(type(trouble)) as error, telling_of_damage("prepared"):
        raise trouble
    assert error.value is trouble


def test_large_images_are_used(tmp_path):
    for kind, array in (("rgb", np.zeros((16, 8192, 3), np.uint8)), ("semseg", np.zeros((16, 8192), np.uint8))):
        (tmp_path / "source" / "train" / kind).mkdir(parents=True)
        save(tmp_path / "source" / "train" / kind / "0.png", array)
    dataset = data.load("miniscapes", "train", data_dir=tmp_path / "source", prepared_dir=tmp_path / "prepared")
    assert dataset[0]["image"].shape == (16, 8192, 3)


def test_a_changed_source_is_prepared_anew_beside(miniscapes_dir, tmp_path):
    where = {"data_dir": miniscapes_dir, "prepared_dir": tmp_path / "prepared"}
    before = data.load("miniscapes", "val", **where)
    again = data.load("miniscapes", "val", **where)
    assert again.path == before.path
    save(miniscapes_dir / "val" / "semseg" / "0.png", np.full((72, 96), 3, np.uint8))
    after = data.load("miniscapes", "val", **where)
    assert after.path != before.path
    assert (after[0]["semseg"] == 3).all() and not (before[0]["semseg"] == 3).all()


def test_the_source_may_be_left_out_where_one_preparation_exists(miniscapes_dir, tmp_path):
    with pytest.raises(UserError, match="--data_dir"):
        data.load("miniscapes", "val", prepared_dir=tmp_path / "prepared")
    made = data.load("miniscapes", "val", data_dir=miniscapes_dir, prepared_dir=tmp_path / "prepared")
    shutil.copytree(made.path, made.path.parents[1] / "another_builders" / "1.0.0")
    (made.path.parents[1] / "another_builders" / "1.0.0" / "metadata.json").unlink()
    assert data.load("miniscapes", "val", prepared_dir=tmp_path / "prepared").path == made.path
    assert data.prepare(data.make_builder("miniscapes", prepared_dir=tmp_path / "prepared")) == made.path


@pytest.mark.parametrize(
    ("name", "message"),
    [("kitti", "expected one of streets"), ("streets/huge", "streets/full"), ("miniscapes/x", "unknown dataset")],
)
def test_unknown_names_are_refused(name, message, tmp_path):
    with pytest.raises(UserError, match=message):
        data.load(name, "train", prepared_dir=tmp_path)


def test_wrong_places_and_splits_are_refused(miniscapes_dir, tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        data.load("miniscapes", "train", data_dir=tmp_path / "nowhere", prepared_dir=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no Miniscapes"):
        data.load("miniscapes", "train", data_dir=tmp_path / "empty", prepared_dir=tmp_path)
    with pytest.raises(UserError, match='no split "night": expected one of'):
        data.load("miniscapes", "night", data_dir=miniscapes_dir, prepared_dir=tmp_path / "prepared")
    with pytest.raises(UserError, match="does not take image_size: leave that out"):
        data.load("miniscapes", "train", data_dir=miniscapes_dir, prepared_dir=tmp_path / "prepared", image_size=(1, 2))
    with pytest.raises(UserError, match="streets reads no files: leave data_dir out, or add --dataset=folder, minis"):
        data.load("streets", "train", data_dir=miniscapes_dir, prepared_dir=tmp_path / "prepared")


def test_nothing_here_needs_tensorflow(miniscapes_dir, tmp_path):
    program = """
        import sys
        class Absent:
            def find_spec(self, name, path=None, target=None):
                assert name.partition(".")[0] != "tensorflow", "TensorFlow was imported"
        sys.meta_path.insert(0, Absent())
        import importlib.util
        find_spec = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *args: None if name == "tensorflow" else find_spec(name, *args)
        from mtl_keras import data
        train = data.load("miniscapes", "train", data_dir=sys.argv[1], prepared_dir=sys.argv[2])
        loader = data.Loader(train, 2, data.TrainView((32, 32)))
        print(loader[0][0].shape, "tensorflow" in sys.modules)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(miniscapes_dir), str(tmp_path / "prepared")],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.getcwd(), "KERAS_BACKEND": "numpy"},
    )
    assert result.stdout.strip() == "(2, 32, 32, 3) False", result.stderr


def test_importing_the_package_leaves_the_heavy_libraries_for_later():
    program = "import sys, mtl_keras.data; print([m for m in ('grain', 'tensorflow_datasets') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
