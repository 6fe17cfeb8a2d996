import itertools
import json
import shutil
import struct
import tomllib
import zlib

import numpy as np
import pytest
from PIL import Image

from mtl_keras import data
from mtl_keras.errors import UserError
from tests.data.conftest import png_of

DESCRIPTION = """
name = "harbour"
classes = ["water", "quay", "ship", "person"]
images = "photos/{split}/{id}_cam0.*"
labels = "truth/{split}/{id}_classes.png"
depth = "lidar/{split}/{id}.png"
depth_encoding = "linear"
depth_scale = 0.001
depth_range = [0.5, 60.0]
"""


@pytest.fixture
def harbour(tmp_path):
    """Own names and folders, four classes, depth in millimetres; one photo lies in a folder of its own."""
    root = tmp_path / "harbour"
    rng = np.random.default_rng(0)
    names = {"train": ["pier/2", "pier/10", "dock"], "val": ["dock"]}
    for split, ids in names.items():
        for name in ids:
            for file, array in (
                (f"photos/{split}/{name}_cam0.jpg", rng.integers(0, 256, (40, 64, 3), np.uint8)),
                (f"truth/{split}/{name}_classes.png", rng.choice([0, 1, 2, 3, 255], (40, 64)).astype(np.uint8)),
                (f"lidar/{split}/{name}.png", rng.integers(0, 65536, (40, 64)).astype(np.uint16)),
            ):
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(root / file)
    (root / "dataset.toml").write_text(DESCRIPTION)
    return root


def test_own_data_has_its_own_classes_and_metres(harbour, tmp_path):
    dataset = data.load("folder", "train", data_dir=harbour, prepared_dir=tmp_path / "prepared")
    assert dataset.spec.classes == ("water", "quay", "ship", "person") and dataset.spec.name == "harbour"
    assert len(set(dataset.spec.palette)) == 4
    assert sorted(dataset.id(i) for i in range(3)) == ["dock", "pier/10", "pier/2"]
    every = []
    for i in range(3):
        name, sample = dataset.id(i), dataset[i]
        millimetres = np.asarray(Image.open(harbour / "lidar/train" / f"{name}.png")).astype(np.float64)
        metres = np.where((millimetres >= 500) & (millimetres <= 60_000), millimetres / 1000, 0)
        np.testing.assert_allclose(dataset.metres(sample), metres, rtol=1e-6)
        np.testing.assert_array_equal(
            sample["semseg"], np.asarray(Image.open(harbour / "truth/train" / f"{name}_classes.png"))
        )
        every.append(metres[metres > 0])
    every = np.concatenate(every)
    assert (dataset.spec.depth_mean, dataset.spec.depth_std) == pytest.approx((every.mean(), every.std()), rel=1e-5)


def test_json_says_the_same_as_toml(harbour, tmp_path):
    (harbour / "dataset.toml").unlink()
    facts = {
        "classes": ["water", "quay", "ship", "car"],
        "palette": [[0, 0, 255], [9, 9, 9], [1, 2, 3], [255, 0, 0]],
        "images": "photos/{split}/{id}_cam0.jpg",
        "labels": "truth/{split}/{id}_classes.png",
    }
    (harbour / "dataset.json").write_text(json.dumps(facts))
    dataset = data.load("folder", "val", data_dir=harbour, prepared_dir=tmp_path / "prepared")
    assert dataset.spec.palette[3] == (255, 0, 0)
    assert not dataset.metres(dataset[0]).any()  # no depth where the description says it lies


def test_labels_outside_the_classes_are_listed(harbour, tmp_path):
    path = harbour / "truth" / "train" / "dock_classes.png"
    Image.fromarray(np.full((40, 64), 4, np.uint8)).save(path)
    with pytest.raises(UserError, match=r"label ids 4 outside 0–3 and 255"):
        data.load("folder", "train", data_dir=harbour, prepared_dir=tmp_path / "prepared")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("depth_scale = 0.001", "depth_scale = -1", "positive number"),
        ("depth_scale", "depth_unit", "depth_unit: expected only"),
        ('"linear"', '"feet"', "expected one of inverse"),
        ("{id}_classes.png", "classes.png", "{id} once"),
        ("[0.5, 60.0]", "[60.0, 0.5]", "two rising numbers"),
        ("[0.5, 60.0]", "[0, 60.0]", "two rising numbers of metres, finite and greater than 0"),
        ("[0.5, 60.0]", f"[0.5, {10**400}]", "two rising numbers of metres, finite and greater than 0"),
        ("0.001", str(10**400), "expected a positive number"),
        ("truth/{split}", "truths/{split}", 'no file like the labels "truths/{split}/{id}_classes.png"'),
        ("{id}_classes.png", "{id}_colours.png", 'no file like the labels "truth/{split}/{id}_colours.png"'),
        ("lidar/", "radar/", 'no file like the depth "radar/{split}/{id}.png"'),
        ('name = "harbour"', "name = ", "cannot be read"),
        ("photos/", "pictures/", "has no images like pictures"),
        ('classes = ["water", "quay", "ship", "person"]', "classes = []", "0 entries"),
        ('classes = ["water", "quay", "ship", "person"]', "classes = 3", "classes is 3, expected a list of names"),
        ('"quay", "ship"', '"ship", "ship"', 'classes has "ship" twice'),
        ("depth_scale", "palette = [1, 2, 3, 4]\ndepth_scale", "palette has no colour"),
        ('["water", "quay", "ship", "person"]', "[1, 2, 3]", "classes has 1, expected a name on one line"),
        ('"quay"', '""', "classes has '', expected a name"),
        ('"quay"', '"qu\\nay"', r"classes has 'qu\nay', expected a name on one line"),
        ('name = "harbour"', 'name = " "', "name is ' ', expected one on one line"),
        (
            "depth_scale",
            "palette = [[0,0,0], [1,1,1], [2,2,2], [true, 3,3]]\ndepth_scale",
            "palette has no colour",
        ),
        (
            "lidar/{split}/{id}.png",
            "lidar/{split}/{frame}{id}.png",
            "expected no braces but {id} and {split}",
        ),
        ("lidar/{split}/", "lidar\\\\{split}\\\\", "no braces but {id} and {split}, and no \\"),
        ("photos/{split}", "photos/train", 'images is "photos/train/{id}_cam0.*", expected {split}'),
        ("[0.5, 60.0]", "60", "depth_range is 60, expected two rising numbers"),
        ("0.001", '"mm"', "depth_scale is mm, expected a positive number"),
        ('classes = ["water", "quay", "ship", "person"]', "", "classes"),
    ],
)
def test_wrong_descriptions_say_what_is_wrong(harbour, tmp_path, old, new, message):
    (harbour / "dataset.toml").write_text(DESCRIPTION.replace(old, new))
    with pytest.raises(UserError) as error:
        data.load("folder", "train", data_dir=harbour, prepared_dir=tmp_path / "prepared")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_written_pattern_needs_a_file_in_one_split_alone(harbour, tmp_path):
    for path in (harbour / "truth" / "val").rglob("*.png"):
        path.unlink()
    val = data.load("folder", "val", data_dir=harbour, prepared_dir=tmp_path / "prepared")
    assert (val[0]["semseg"] == 255).all() and val.metres(val[0]).any()


@pytest.mark.parametrize("name", ["dataset.toml", "dataset.json"])
def test_a_description_may_begin_with_a_byte_order_mark(harbour, tmp_path, name):
    text = DESCRIPTION if name == "dataset.toml" else json.dumps(tomllib.loads(DESCRIPTION))
    (harbour / "dataset.toml").unlink()
    (harbour / name).write_text(text, encoding="utf-8-sig")
    dataset = data.load("folder", "val", data_dir=harbour, prepared_dir=tmp_path / "prepared")
    assert dataset.spec.classes == ("water", "quay", "ship", "person")


def test_files_that_share_an_id_are_listed(harbour, tmp_path):
    photo, truth = harbour / "photos/train/dock_cam0.jpg", harbour / "truth/train/pier/2_classes.png"
    Image.open(photo).save(photo.with_suffix(".png"))
    shutil.copy(truth, truth.with_suffix(".jpeg"))
    (harbour / "dataset.toml").write_text(DESCRIPTION.replace("_classes.png", "_classes.*"))
    with pytest.raises(UserError) as error:
        data.load("folder", "train", data_dir=harbour, prepared_dir=tmp_path / "prepared")
    headline, *lines = str(error.value).splitlines()
    assert headline.startswith("4 files of folder") and len(lines) == 4
    assert sum("dock_cam0" in line and "another file has the id dock too" in line for line in lines) == 2
    assert sum("2_classes" in line and "another file has the id pier/2 too" in line for line in lines) == 2


def test_depth_in_another_format_is_named_as_the_pattern_finds_it(harbour, tmp_path):
    for path in (harbour / "lidar").rglob("*.png"):
        Image.open(path).save(path.with_suffix(".tif"))
        path.unlink()
    for ending in ("tif", "*"):
        text = DESCRIPTION.replace("lidar/{split}/{id}.png", "lidar/{split}/{id}." + ending)
        (harbour / "dataset.toml").write_text(text)
        with pytest.raises(UserError, match=r"4 files of folder cannot be used") as error:
            data.load("folder", "train", data_dir=harbour, prepared_dir=tmp_path / "prepared")
        assert str(error.value).count(".tif: not a PNG or JPEG image") == 4


def test_images_and_labels_may_lie_in_one_folder(tmp_path):
    rng = np.random.default_rng(0)
    for split, number in itertools.product(("train", "val"), range(2)):
        folder = tmp_path / "source" / split
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 64, 3), np.uint8)).save(folder / f"{number}.png")
        Image.fromarray(rng.integers(0, 2, (40, 64)).astype(np.uint8)).save(folder / f"{number}_label.png")
    text = 'classes = ["a", "b"]\nimages = "{split}/{id}.*"\nlabels = "{split}/{id}_label.png"\n'
    (tmp_path / "source" / "dataset.toml").write_text(text)
    train = data.load("folder", "train", data_dir=tmp_path / "source", prepared_dir=tmp_path / "prepared")
    assert [train.id(index) for index in range(len(train))] == ["0", "1"]
    assert all((train[index]["semseg"] < 2).all() for index in range(2))


def test_hidden_files_and_folders_are_passed_over(harbour, tmp_path):
    before = data.load("folder", "train", data_dir=harbour, prepared_dir=tmp_path / "prepared")
    for hidden in ("._dock_cam0.jpg", ".trash/9_cam0.jpg"):
        (harbour / "photos/train" / hidden).parent.mkdir(exist_ok=True)
        (harbour / "photos/train" / hidden).write_bytes(b"resource fork")
    after = data.load("folder", "train", data_dir=harbour, prepared_dir=tmp_path / "prepared")
    assert after.path == before.path and len(after) == 3


def test_depth_that_does_not_vary_can_be_normalised(harbour, tmp_path):
    for path in (harbour / "lidar").rglob("*.png"):
        Image.fromarray(np.full((40, 64), 5000, np.uint16)).save(path)
    dataset = data.load("folder", "train", data_dir=harbour, prepared_dir=tmp_path / "prepared")
    assert dataset.measured_depth == {"depth_mean": 5.0, "depth_std": 0.0}
    assert (dataset.spec.depth_mean, dataset.spec.depth_std) == (5.0, pytest.approx(0.005))


def test_a_description_is_needed(tmp_path):
    with pytest.raises(UserError, match=r'has no dataset.toml: give it one, with classes = \["road", "car"\]'):
        data.load("folder", "train", data_dir=tmp_path, prepared_dir=tmp_path)
    for name in ("dataset.toml", "dataset.json"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"has 2 descriptions: expected one dataset.toml or dataset.json"):
        data.load("folder", "train", data_dir=tmp_path, prepared_dir=tmp_path)


def test_suffixes_may_be_in_capitals_and_names_hold_any_character(harbour, tmp_path):
    for file in sorted((harbour / "truth").rglob("*.png")):
        file.rename(file.with_suffix(".PNG"))
    for kind, ending in (("photos", "_cam0.jpg"), ("truth", "_classes.PNG"), ("lidar", ".png")):
        (harbour / kind / "val" / f"dock{ending}").rename(harbour / kind / "val" / f"do\nck{ending}")
    both = data.load_splits("folder", data_dir=harbour, prepared_dir=tmp_path / "prepared")
    assert (len(both["train"]), len(both["val"])) == (3, 1)
    for dataset in both.values():
        assert all((dataset[index]["semseg"] != 255).any() for index in range(len(dataset)))


def _as_jpeg(path):
    Image.open(path).save(path, format="JPEG")


def _with_four_bits(path):
    Image.open(path).point(lambda number: number % 3).save(path)
    rows = (np.asarray(Image.open(path)) % 3).tolist()
    scanlines = b"".join(b"\0" + bytes(16 * a + b for a, b in zip(row[::2], row[1::2], strict=True)) for row in rows)
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 4, 0, 0, 0, 0)
    path.write_bytes(png_of([(b"IHDR", header), (b"IDAT", zlib.compress(scanlines)), (b"IEND", b"")]))


def _turned(path):
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(path).save(path, exif=exif)


@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        ("truth/train/dock_classes.png", _as_jpeg, "JPEG, expected PNG"),
        ("truth/train/dock_classes.png", _with_four_bits, "4-bit grey, expected 8 bits"),
        ("photos/train/dock_cam0.jpg", _turned, "EXIF orientation 3"),
    ],
)
def test_files_whose_pixels_are_not_what_they_seem_are_named(harbour, tmp_path, file, damage, reason):
    damage(harbour / file)
    with pytest.raises(UserError, match=f"{(harbour / file).name}: {reason}"):
        data.load("folder", "train", data_dir=harbour, prepared_dir=tmp_path / "prepared")


def test_a_split_knows_what_it_has_any_label_of(harbour, tmp_path):
    shutil.rmtree(harbour / "lidar/train")
    Image.fromarray(np.full((40, 64), 255, np.uint8)).save(harbour / "truth/val/dock_classes.png")
    splits = data.load_splits("folder", ("train", "val"), data_dir=harbour, prepared_dir=tmp_path / "prepared")
    assert splits["train"].tasks == ("semseg",) and splits["val"].tasks == ("depth",)


def test_a_split_that_is_not_there_is_told_before_anything_is_prepared(harbour, tmp_path):
    with pytest.raises(UserError, match='folder has no split "test": expected one of train, val'):
        data.load_splits("folder", ("train", "test"), data_dir=harbour, prepared_dir=tmp_path / "prepared")
    assert not list((tmp_path / "prepared").rglob("dataset_info.json"))


def test_sizes_that_cannot_be_trained_on_are_told_before_a_step_with_a_file_that_has_them(harbour, tmp_path):
    image = np.zeros((20, 96, 3), np.uint8)
    Image.fromarray(image).save(harbour / "photos/train/tiny_cam0.jpg")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(harbour / "photos/val/wide_cam0.jpg")
    splits = data.load_splits("folder", ("train", "val"), data_dir=harbour, prepared_dir=tmp_path / "prepared")
    assert splits["train"].sizes.keys() == {(40, 64), (20, 96)} and splits["train"].sizes[20, 96] == "tiny"
    with pytest.raises(UserError, match=r"train, tiny: the image is 20×96 px, smaller than the crop"):
        data.Loader(splits["train"], 2, data.TrainView((32, 32)))
    with pytest.raises(UserError, match=r"2 sizes, such as 32×64 of dock and 64×64 of wide.*--val_batch_size=1"):
        data.Loader(splits["val"], 2, data.EvalView(), shuffle=False, drop_remainder=False)
    with data.Loader(splits["val"], 1, data.EvalView(), shuffle=False, drop_remainder=False) as one_by_one:
        assert [one_by_one[step][0].shape[1:3] for step in range(2)] == [(32, 64), (64, 64)]
