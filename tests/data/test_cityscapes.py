import json
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from mtl_keras import data
from mtl_keras.data.cityscapes import train_id_table
from mtl_keras.errors import UserError

SIZE = (64, 128)
FRAMES = {"train": ["ulm_000001_000019", "ulm_000002_000019", "bonn_000000_000019"], "val": ["lindau_000000_000019"]}


@pytest.fixture
def tree(tmp_path):
    """Frames in the official tree, with all label ids, all kinds of disparity and a camera of their own each."""
    root = tmp_path / "source"
    rng = np.random.default_rng(0)
    for split, names in FRAMES.items():
        for name in names:
            city = name.split("_")[0]
            write_frame(root, split, f"{city}/{name}", rng)
    return root


def write_frame(root, split, name, rng):
    for folder in ("leftImg8bit", "gtFine", "disparity", "camera"):
        (root / folder / split / name).parent.mkdir(parents=True, exist_ok=True)
    image = rng.integers(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(image).save(root / "leftImg8bit" / split / f"{name}_leftImg8bit.png")
    Image.fromarray(rng.integers(0, 34, SIZE, np.uint8)).save(root / "gtFine" / split / f"{name}_gtFine_labelIds.png")
    disparity = rng.integers(0, 32768, SIZE).astype(np.uint16)
    disparity[:4], disparity[4:6] = 0, 1
    Image.fromarray(disparity).save(root / "disparity" / split / f"{name}_disparity.png")
    camera = {
        "extrinsic": {"baseline": float(rng.uniform(0.2, 0.23)), "pitch": 0.03, "roll": 0.0, "x": 1.7},
        "intrinsic": {"fx": float(rng.uniform(2200, 2300)), "fy": 2265.3, "u0": 1096.98, "v0": 513.137},
    }
    (root / "camera" / split / f"{name}_camera.json").write_text(json.dumps(camera))


def truth(root, split, name):
    """Image, train ids and metres, from the files alone and in float64."""
    city = name.split("_")[0]
    file = lambda folder, kind: root / folder / split / city / f"{name}_{kind}"  # noqa: E731
    camera = json.loads(file("camera", "camera.json").read_text())
    p = np.asarray(Image.open(file("disparity", "disparity.png"))).astype(np.float64)
    with np.errstate(divide="ignore"):
        metres = camera["extrinsic"]["baseline"] * camera["intrinsic"]["fx"] / ((p - 1) / 256)
    metres[(p == 0) | (metres < 4) | (metres > 300)] = 0
    ids = np.asarray(Image.open(file("gtFine", "gtFine_labelIds.png")))
    return np.asarray(Image.open(file("leftImg8bit", "leftImg8bit.png"))), published_table()[ids], metres


def published_table():
    """Label ids to train ids as cityscapesScripts has them."""
    labels = pytest.importorskip("cityscapesscripts.helpers.labels")
    table = np.full(256, 255)
    for label in labels.labels:
        if label.id >= 0:
            table[label.id] = label.trainId if label.trainId >= 0 else 255
    return table


def test_the_label_table_is_that_of_cityscapesscripts():
    np.testing.assert_array_equal(train_id_table(), published_table())


def test_classes_and_colours_are_those_of_cityscapesscripts():
    labels = pytest.importorskip("cityscapesscripts.helpers.labels")
    expected = {label.trainId: label for label in labels.labels if 0 <= label.trainId < 255}
    spec = data.DataSpec("cityscapes")
    assert spec.classes == tuple(expected[i].name for i in range(19))
    assert spec.palette == tuple(expected[i].color for i in range(19))


@pytest.mark.parametrize("cache", ["none", "ram", "disk"])
def test_labels_and_depth_agree_with_the_official_files_through_every_cache(tree, tmp_path, cache):
    for split, names in FRAMES.items():
        dataset = data.load("cityscapes", split, data_dir=tree, prepared_dir=tmp_path / "prepared")
        view = data.EvalView()
        with data.Loader(dataset, 1, view, shuffle=False, drop_remainder=False, cache=cache) as loader:
            for step in range(len(loader)):
                (name,) = loader.ids(step)
                images, labels = loader[step]
                image, semseg, metres = truth(tree, split, name)
                np.testing.assert_array_equal(images[0], image)
                np.testing.assert_array_equal(labels["semseg"][0], semseg)
                depth = labels["depth"][0, ..., 0].astype(np.float64)
                np.testing.assert_array_equal(depth > 0, metres > 0)
                np.testing.assert_allclose(depth, metres, rtol=1e-6)
        assert sorted(dataset.id(i) for i in range(len(dataset))) == sorted(names)


def test_depth_statistics_are_measured_on_the_train_split(tree, tmp_path):
    metres = np.concatenate([truth(tree, "train", name)[2].ravel() for name in FRAMES["train"]])
    metres = metres[metres > 0]
    for split in FRAMES:
        spec = data.load("cityscapes", split, data_dir=tree, prepared_dir=tmp_path / "prepared").spec
        assert (spec.depth_mean, spec.depth_std) == pytest.approx((metres.mean(), metres.std()), rel=1e-5)


def test_archives_are_read_in_place(tree, tmp_path):
    packed = tmp_path / "packed"
    packed.mkdir()
    for folder in ("leftImg8bit", "gtFine", "disparity", "camera"):
        with zipfile.ZipFile(packed / f"{folder}_trainvaltest.zip", "w") as archive:
            archive.writestr("README", "")
            for path in sorted((tree / folder).rglob("*.*")):
                archive.write(path, path.relative_to(tree))
    before = sorted(packed.rglob("*"))
    unpacked = data.load("cityscapes", "train", data_dir=tree, prepared_dir=tmp_path / "prepared")
    dataset = data.load("cityscapes", "train", data_dir=packed, prepared_dir=tmp_path / "prepared")
    assert len(dataset) == 3 and dataset.path != unpacked.path
    for i in range(3):
        for name, value in unpacked[i].items():
            np.testing.assert_array_equal(dataset[i][name], value)
    assert sorted(packed.rglob("*")) == before


def test_a_smaller_size_averages_rgb_and_keeps_depth_exact(tree, tmp_path):
    dataset = data.load("cityscapes", "val", data_dir=tree, prepared_dir=tmp_path / "prepared", image_size=(32, 64))
    sample = dataset[0]
    image, semseg, metres = truth(tree, "val", "lindau_000000_000019")
    average = image.reshape(32, 2, 64, 2, 3).mean((1, 3))
    assert abs(sample["image"] - average).max() <= 0.51
    np.testing.assert_array_equal(sample["semseg"], semseg[1::2, 1::2])
    np.testing.assert_allclose(dataset.metres(sample), metres[1::2, 1::2], rtol=1e-6)


@pytest.mark.parametrize("size", [(19, 31), (32, 50), (48, 96), (63, 127), (64, 77)])
def test_a_size_at_no_whole_ratio_averages_exact_areas(tree, tmp_path, size):
    dataset = data.load("cityscapes", "val", data_dir=tree, prepared_dir=tmp_path / "prepared", image_size=size)
    image = truth(tree, "val", "lindau_000000_000019")[0].astype(np.float64)
    for axis, new in enumerate(size):
        old = image.shape[axis]
        integral = np.insert(np.cumsum(image, axis), 0, 0, axis)
        at_ends = lambda sums, old=old, new=new: np.interp(np.linspace(0, old, new + 1), np.arange(old + 1), sums)  # noqa: E731
        image = np.diff(np.apply_along_axis(at_ends, axis, integral), axis=axis) * new / old
    sample = dataset[0]
    assert sample["image"].shape == (*size, 3) and sample["semseg"].shape == sample["depth_codes"].shape == size
    assert abs(sample["image"] - image).max() <= 0.5 + 1e-6


def test_the_depth_range_is_an_option(tree, tmp_path):
    near = data.load("cityscapes", "val", data_dir=tree, prepared_dir=tmp_path / "prepared", depth_range=(5.0, 20.0))
    assert near.spec.depth_range == (5.0, 20.0)
    metres = near.metres(near[0])
    assert metres.max() <= 20 and metres[metres > 0].min() >= 5


@pytest.mark.parametrize(
    ("option", "message"),
    [
        *(
            ({"depth_range": value}, "two rising numbers of metres, finite and greater than 0")
            for value in ((0, 300.0), (4.0, np.inf), (4.0, 10**400), (20.0, 5.0), (5.0,), 5.0)
        ),
        *(({"image_size": value}, "expected height and width") for value in ((0, 64), (512,), 512, (32.5, 64))),
        ({"size": (32, 64)}, "cityscapes does not take size: leave that out"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(tree, tmp_path, option, message):
    with pytest.raises(UserError, match=message):
        data.load("cityscapes", "val", data_dir=tree, prepared_dir=tmp_path, **option)


def test_frames_may_lack_labels(tree, tmp_path):
    (tree / "disparity" / "train" / "ulm" / "ulm_000001_000019_disparity.png").unlink()
    (tree / "gtFine" / "train" / "bonn" / "bonn_000000_000019_gtFine_labelIds.png").unlink()
    dataset = data.load("cityscapes", "train", data_dir=tree, prepared_dir=tmp_path / "prepared")
    samples = {dataset.id(i): dataset[i] for i in range(3)}
    without_depth, without_labels = samples["ulm_000001_000019"], samples["bonn_000000_000019"]
    assert (dataset.metres(without_depth) == 0).all()
    np.testing.assert_array_equal(without_depth["semseg"], truth_labels(tree, "ulm_000001_000019"))
    assert (without_labels["semseg"] == 255).all() and (dataset.metres(without_labels) > 0).any()


def truth_labels(root, name):
    path = root / "gtFine" / "train" / name.split("_")[0] / f"{name}_gtFine_labelIds.png"
    return published_table()[np.asarray(Image.open(path))]


def test_train_id_images_are_taken_as_they_are(tree, tmp_path):
    path = tree / "gtFine" / "val" / "lindau" / "lindau_000000_000019_gtFine_labelIds.png"
    train_ids = published_table()[np.asarray(Image.open(path))].astype(np.uint8)
    path.unlink()
    Image.fromarray(train_ids).save(path.with_name(path.name.replace("labelIds", "labelTrainIds")))
    dataset = data.load("cityscapes", "val", data_dir=tree, prepared_dir=tmp_path / "prepared")
    np.testing.assert_array_equal(dataset[0]["semseg"], train_ids)


def test_bad_frames_are_listed(tree, tmp_path):
    ulm = "train/ulm/ulm_000001_000019"
    (tree / "camera" / f"{ulm}_camera.json").unlink()
    Image.fromarray(np.full(SIZE, 34, np.uint8)).save(tree / "gtFine" / f"{ulm}_gtFine_labelIds.png")
    (tree / "camera" / "train" / "bonn" / "bonn_000000_000019_camera.json").write_text('{"intrinsic": {}}')
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(
        tree / "disparity" / "val/lindau/lindau_000000_000019_disparity.png"
    )
    with pytest.raises(UserError) as error:
        data.load("cityscapes", "train", data_dir=tree, prepared_dir=tmp_path / "prepared")
    headline, *lines = str(error.value).splitlines()
    assert headline.startswith("4 files of cityscapes") and len(lines) == 4
    for part in ("no camera file", "label ids 34", "extrinsic.baseline", "8×8 px"):
        assert sum(part in line for line in lines) == 1


@pytest.mark.parametrize(
    ("baseline", "fx"),
    [(10**400, 2262.5), (1e-300, 2262.5), (1e200, 2262.5), (-0.2, -2262.5), ("NaN", 2262.5), ("true", 2262.5)]
    + [('"0.2"', 2262.5), (0.2, "[2262.5]"), (1e20, 1e20)],
)
def test_cameras_that_give_no_usable_scale_are_listed(tree, tmp_path, baseline, fx):
    camera = tree / "camera" / "train" / "bonn" / "bonn_000000_000019_camera.json"
    camera.write_text(f'{{"extrinsic": {{"baseline": {baseline}}}, "intrinsic": {{"fx": {fx}}}}}')
    with pytest.raises(UserError) as error:
        data.load("cityscapes", "train", data_dir=tree, prepared_dir=tmp_path / "prepared")
    _, *lines = str(error.value).splitlines()
    assert len(lines) == 1 and str(camera) in lines[0]
    assert "expected each and their product to be a positive number, 1e-30 to" in lines[0]


def test_files_whose_pixels_are_not_what_they_seem_are_listed(tree, tmp_path):
    bonn = "train/bonn/bonn_000000_000019"
    image, labels, disparity = (
        tree / folder / f"{bonn}_{kind}.png"
        for folder, kind in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds"), ("disparity", "disparity"))
    )
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(image).save(image, exif=exif)
    Image.open(labels).save(labels, format="JPEG")
    Image.open(disparity).convert("L").save(disparity)
    with pytest.raises(UserError) as error:
        data.load("cityscapes", "train", data_dir=tree, prepared_dir=tmp_path / "prepared")
    _, *lines = str(error.value).splitlines()
    reasons = ((image, "EXIF orientation 3"), (labels, "JPEG, expected PNG"), (disparity, "expected 16-bit grey"))
    assert len(lines) == 3
    for path, reason in reasons:
        assert [line for line in lines if str(path) in line and reason in line]


def test_frames_that_share_an_id_are_listed(tree, tmp_path):
    write_frame(tree, "train", "ulm/bonn_000000_000019", np.random.default_rng(1))
    with pytest.raises(UserError) as error:
        data.load("cityscapes", "train", data_dir=tree, prepared_dir=tmp_path / "prepared")
    _, *lines = str(error.value).splitlines()
    assert len(lines) == 2 and all("another file has the id bonn_000000_000019 too" in line for line in lines)
    assert "/bonn/bonn_" in lines[0] and "/ulm/bonn_" in lines[1]


def test_hidden_files_are_passed_over(tree, tmp_path):
    packed = tmp_path / "packed"
    packed.mkdir()
    hidden = "leftImg8bit/train/ulm/._ulm_000001_000019_leftImg8bit.png"
    (tree / hidden).write_bytes(b"resource fork")
    with zipfile.ZipFile(packed / "leftImg8bit_trainvaltest.zip", "w") as archive:
        for path in sorted((tree / "leftImg8bit").rglob("*.*")):
            archive.write(path, path.relative_to(tree))
        assert hidden in archive.namelist()
    for source in (tree, packed):
        dataset = data.load("cityscapes", "train", data_dir=source, prepared_dir=tmp_path / "prepared")
        assert sorted(dataset.id(i) for i in range(len(dataset))) == sorted(FRAMES["train"])


def test_a_folder_without_cityscapes_says_where_it_comes_from(tmp_path):
    with pytest.raises(UserError, match="cityscapes-dataset.com"):
        data.load("cityscapes", "train", data_dir=tmp_path, prepared_dir=tmp_path)
    (tmp_path / "gtFine_trainvaltest.zip").write_bytes(b"half a download")
    with pytest.raises(UserError, match="to download again"):
        data.load("cityscapes", "train", data_dir=tmp_path, prepared_dir=tmp_path)


def test_what_no_frame_has_is_told_at_once(tree, tmp_path, caplog):
    shutil.rmtree(tree / "camera")
    with pytest.raises(UserError, match=f"{tree} holds disparity but no camera, .*camera_trainvaltest.zip"):
        data.make_builder("cityscapes", data_dir=tree, prepared_dir=tmp_path / "prepared")
    shutil.rmtree(tree / "disparity")
    (tree / "gtFine").rename(tree / "gtFine_trainvaltest")
    data.make_builder("cityscapes", data_dir=tree, prepared_dir=tmp_path / "prepared")
    for missing in ("gtFine/train/<city>/*_gtFine_labelIds.png", "disparity/train/<city>/*_disparity.png"):
        assert f"{tree} has no {missing}" in caplog.text


def test_archives_that_cannot_be_opened_are_listed_and_those_of_other_frames_passed_over(tree, tmp_path, caplog):
    places = {"data_dir": tree, "prepared_dir": tmp_path / "prepared"}
    for name in ("leftImg8bit_trainextra.zip", "disparity_sequence_trainvaltest.zip", "camera_trainvaltest (1).zip"):
        (tree / name).write_bytes(b"half a download")
    (tree / "gtFine_visualized.zip").mkdir()
    (tree / "leftImg8bit" / "train_extra" / "ulm").mkdir(parents=True)
    assert len(data.load("cityscapes", "train", **places)) == 3
    told = [record.getMessage() for record in caplog.records if record.name == "mtl_keras.data.archives"]
    assert len(told) == 3 and all(line.startswith(f"passed over {tree}") for line in told)
    for name in ("gtFine_trainvaltest.zip", "camera.zip"):
        (tree / name).touch()
    with pytest.raises(UserError) as error:
        data.load("cityscapes", "train", **places)
    assert str(error.value).splitlines() == [
        "archives to download again, or to remove:",
        f"  {tree / 'gtFine_trainvaltest.zip'}: cannot be opened (File is not a zip file)",
        f"  {tree / 'camera.zip'}: cannot be opened (File is not a zip file)",
    ]


def test_what_is_not_used_does_not_prepare_anew(tree, tmp_path):
    places = {"data_dir": tree, "prepared_dir": tmp_path / "prepared"}
    before = data.load("cityscapes", "train", **places, depth_range=(4.0, 300.0))
    (tree / "gtFine" / "train" / "ulm" / ".DS_Store").touch()
    (tree / "gtFine" / "train" / "ulm" / "ulm_000001_000019_gtFine_color.png").touch()
    assert data.load("cityscapes", "train", **places, depth_range=[4, 300]).path == before.path


def test_links_to_folders_are_followed_and_links_to_nothing_are_named(tree, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (tree / "gtFine" / "train").rename(elsewhere)
    (tree / "gtFine" / "train").symlink_to(elsewhere)
    # One that leads back must not be followed for ever.
    (elsewhere / "ulm" / "back").symlink_to(elsewhere)
    train = data.load("cityscapes", "train", data_dir=tree, prepared_dir=tmp_path / "prepared")
    assert all((train[index]["semseg"] != 255).any() for index in range(len(train)))
    (image,) = (tree / "leftImg8bit" / "val").rglob("*.png")
    image.unlink()
    image.symlink_to(tmp_path / "nothing.png")
    with pytest.raises(UserError, match=rf"{image.name}: No such file"):
        data.load("cityscapes", "val", data_dir=tree, prepared_dir=tmp_path / "prepared")


def test_a_tree_is_completed_by_the_archive_beside_it(tree, tmp_path):
    with zipfile.ZipFile(tree / "gtFine_trainvaltest.zip", "w") as archive:
        for path in sorted((tree / "gtFine").rglob("*.png")):
            archive.write(path, path.relative_to(tree))
            if path.parts[-3] == "train":
                path.unlink()
    train = data.load("cityscapes", "train", data_dir=tree, prepared_dir=tmp_path / "prepared")
    for index in range(len(train)):
        np.testing.assert_array_equal(train[index]["semseg"], original_labels(tree, train.id(index)))


def original_labels(root, name):
    with zipfile.ZipFile(root / "gtFine_trainvaltest.zip") as archive:
        file = archive.open(f"gtFine/train/{name.split('_')[0]}/{name}_gtFine_labelIds.png")
        return train_id_table()[np.asarray(Image.open(file))]


def test_a_damaged_lzma_archive_is_named(tree, tmp_path):
    with zipfile.ZipFile(tree / "camera_trainvaltest.zip", "w", zipfile.ZIP_LZMA) as archive:
        for path in sorted((tree / "camera").rglob("*.json")):
            archive.write(path, path.relative_to(tree))
            path.unlink()
        first = archive.infolist()[0]
    path = tree / "camera_trainvaltest.zip"
    content = bytearray(path.read_bytes())
    begin = first.header_offset + 30 + len(first.filename) + 10
    content[begin : begin + 40] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged archive"):
        data.load("cityscapes", "train", data_dir=tree, prepared_dir=tmp_path / "prepared")


@pytest.mark.parametrize("size", [(48, 96), (40, 50), (33, 127)])
def test_labels_and_disparity_are_taken_from_the_same_pixels_at_any_ratio(tree, tmp_path, size):
    """Each pixel's label says where it is, and so does its disparity."""
    places = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE)
    (label,) = (tree / "gtFine" / "val").rglob("*.png")
    (disparity,) = (tree / "disparity" / "val").rglob("*.png")
    Image.fromarray((places % 19).astype(np.uint8)).save(
        label.with_name(label.name.replace("labelIds", "labelTrainIds"))
    )
    label.unlink()
    Image.fromarray((places + 1).astype(np.uint16)).save(disparity)
    source = {"data_dir": tree, "prepared_dir": tmp_path / "prepared"}
    sample = data.load("cityscapes", "val", **source, image_size=size)[0]
    np.testing.assert_array_equal(sample["semseg"], (sample["depth_codes"].astype(int) - 1) % 19)
