"""What the look at a dataset says, against what lies in its files."""

import copy
import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from mtl_keras import data, viz
from mtl_keras.data.loading import prepare
from mtl_keras.data.streets import Streets, StreetsConfig
from tests.data.conftest import write_miniscapes
from tests.data.test_cityscapes import write_frame
from trainers import data_report


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("source")
    write_miniscapes(root, {"train": 7, "val": 3, "test": 2})
    for path in (root / "train" / "semseg").glob("*.png"):
        ids = np.asarray(Image.open(path)).copy()
        ids[ids == 16] = 15  # no train in train
        Image.fromarray(ids).save(path)
    return root


def rows(output: str) -> dict[str, list[str]]:
    """The tables' numbers by the text before them, without bars."""
    found = {}
    for line in output.splitlines():
        words = [word for word in line.replace("■", "").split("  ") if word.strip(" ▏▎▍▌▋▊▉█")]
        if len(words) > 1:
            found[words[0].strip(" ▏▎▍▌▋▊▉█")] = [word.strip() for word in words[1:]]
    return found


def test_it_counts_measures_and_draws_and_measures_once(source, tmp_path, command):
    flags = ["--dataset=miniscapes", f"--data_dir={source}", f"--prepared_dir={tmp_path / 'prepared'}"]
    out = tmp_path / "out [b]"
    process = command("data", *flags, f"--out={out}", "--samples=3")
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    table = rows(output)
    assert table["samples"] == ["7", "3", "2"]
    assert table["without semseg"] == ["1", "0", "2"] and table["without depth"] == ["1", "0", "2"]
    ids = np.concatenate([np.asarray(Image.open(p)).ravel() for p in (source / "train" / "semseg").glob("*.png")])
    car = 100 * (ids == 13).sum() / (ids < 19).sum()
    assert table["car"] == [f"{car:.2f}", table["car"][1], "–"]
    assert table["train"][0] == "–" and "no pixel of train is train\n" in output and "no bad files" in output
    assert "(published; measured on train: mean " in output
    for split in ("train", "val", "test"):
        assert f"picture     {out / f'samples-{split}.png'}\n" in output
        with Image.open(out / f"samples-{split}.png") as picture:
            assert picture.width > 1000
    (stored,) = (tmp_path / "prepared").rglob("statistics-train.json")
    assert json.loads(stored.read_text())["class_pixels"][13] == (ids == 13).sum()

    process = command("data", "--dataset=miniscapes", f"--prepared_dir={tmp_path / 'prepared'}", "--split=val")
    again, errors = process.communicate(timeout=120)
    assert process.returncode == 0 and "Measuring" not in errors
    assert rows(again)["car"] == table["car"][1:2]
    assert (stored.parent / "samples-val.png").is_file() and not (stored.parent / "samples-train.png").exists()


def test_bad_files_are_all_named_and_skipped_if_asked(source, tmp_path, command):
    broken = tmp_path / "source"
    write_miniscapes(broken, {"train": 4})
    (broken / "train" / "rgb" / "0.jpg").write_bytes(b"no image")
    Image.fromarray(np.full((72, 96), 77, np.uint8)).save(broken / "train" / "semseg" / "3.png")
    where = ["--dataset=miniscapes", f"--data_dir={broken}", f"--prepared_dir={tmp_path / 'prepared'}"]
    commands = {
        "refused": command("data", *where),
        "wrong dataset": command("data", "--dataset=kitti"),
        "wrong option": command("data", *where, "--image_size=32,64"),
        "wrong split": command("data", *where[:1], f"--data_dir={source}", where[2], "--split=night"),
    }
    said = {name: (process.communicate(timeout=120), process.returncode) for name, process in commands.items()}
    assert {status for _, status in said.values()} == {2}
    headline, *listing = [line for line in said["refused"][0][1].splitlines() if line and "Preparing" not in line]
    assert headline.startswith("error: 2 files of miniscapes cannot be used") and len(listing) == 2
    assert "rgb/0.jpg: not a PNG or JPEG" in listing[0] and "semseg/3.png: label ids 77" in listing[1]
    for name, part in (
        ("wrong dataset", "kitti"),
        ("wrong option", "does not take image_size: leave that out"),
        ("wrong split", 'has no split "night": expected one of train, val, test'),
    ):
        (line,) = (line for line in said[name][0][1].splitlines() if line.startswith("error:"))
        assert part in line and "Traceback" not in said[name][0][1]

    process = command("data", *where, "--skip_bad_files", f"--out={tmp_path / 'out'}")
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "2 bad files were left out:" in output and "label ids 77" in output
    assert "no val split: trainers.fit needs both\n" in output
    assert rows(output)["samples"] == ["2"]


def test_size_and_depth_range_of_cityscapes_are_flags(tmp_path, command):
    write_frame(tmp_path / "source", "train", "ulm/ulm_000000_000019", np.random.default_rng(0))
    process = command(
        "data",
        "--dataset=cityscapes",
        f"--data_dir={tmp_path / 'source'}",
        f"--prepared_dir={tmp_path / 'prepared'}",
        "--image_size=32,64",
        "--depth_range=5,20",
    )
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert rows(output)["height×width"] == ["32×64"] and "depth 5–20 m" in output and "(measured on train)" in output
    assert list((tmp_path / "prepared").rglob("samples-train.png"))


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    config = StreetsConfig(name="tiny", size=(64, 128), counts={"train": 3, "val": 2})
    builder = Streets(config=config, data_dir=str(tmp_path_factory.mktemp("streets")))
    builder.PROCESSES = False  # which would take longer to start than these few scenes
    prepare(builder)
    return {split: data.Dataset(builder.data_path, split) for split in ("train", "val")}


def test_the_tables_show_what_was_measured(streets):
    statistics = {split: data.measure_statistics(dataset) for split, dataset in streets.items()}
    console = Console(record=True, width=200, file=io.StringIO())
    console.print(data_report.describe(streets, statistics))
    table = rows(console.export_text())
    for column, split in enumerate(streets):
        labels = np.stack([streets[split][i]["semseg"] for i in range(len(streets[split]))])
        metres = np.stack([streets[split].metres(streets[split][i]) for i in range(len(streets[split]))])
        metres = metres[metres > 0].astype(np.float64)
        assert table["road"][column] == f"{100 * (labels == 0).sum() / (labels < 255).sum():.2f}"
        assert table["depth mean, m"][column] == f"{metres.mean():.2f}"
        assert table["valid depth, % of all pixels"][column] == f"{100 * metres.size / labels.size:.1f}"
        bins = [name for name in table if name.endswith(" m") and "–" in name and name[0].isdigit()]
        shares = [float(table[name][column]) for name in bins if table[name][column] not in ("–", "<0.01")]
        assert len(bins) > 8 and sum(shares) == pytest.approx(100, abs=0.2)


def test_depth_in_another_unit_than_a_folder_says_is_told_with_the_way_out(tmp_path):
    """An image of each split has no depth, one is 20 m away, and one of train half a metre."""
    for split, depths in (("train", (None, 20_000, 500)), ("val", (None, 20_000))):
        for kind in ("images", "depth"):
            (tmp_path / "source" / split / kind).mkdir(parents=True)
        for index, depth in enumerate(depths):
            folder = tmp_path / "source" / split
            Image.fromarray(np.zeros((32, 64, 3), np.uint8)).save(folder / "images" / f"{index}.png")
            if depth:
                Image.fromarray(np.full((32, 64), depth, np.uint16)).save(folder / "depth" / f"{index}.png")
    limits, way_out = "no pixel within 0.5 to 65 m", "; the files' unit is depth_scale in dataset.toml"
    for unit, told in (
        ("", [f"2 depth files of train have {limits}{way_out}", f"1 depth file of val has {limits}{way_out}"]),
        ("depth_scale = 0.1", [f"1 depth file of train has {limits}", f"1 depth file of val has {limits}{way_out}"]),
        ("depth_scale = 0.001", []),
    ):
        description = tmp_path / "source" / "dataset.toml"
        description.write_text(f'classes = ["a"]\ndepth_range = [0.5, 65]\n{unit}')
        datasets = data.load_splits("folder", data_dir=tmp_path / "source", prepared_dir=tmp_path / "prepared")
        statistics = {split: data.measure_statistics(dataset) for split, dataset in datasets.items()}
        console = Console(record=True, width=200, file=io.StringIO())
        console.print(data_report.describe(datasets, statistics))
        said = console.export_text()
        assert rows(said)["without depth"] == ["1", "1"]
        assert [line for line in said.splitlines() if "no pixel within" in line] == told


def test_classes_of_long_names_are_told_apart(streets):
    statistics = data.measure_statistics(streets["val"])
    names = [f"construction--barrier--{name}" for name in streets["val"].spec.classes]
    dataset = copy.copy(streets["val"])
    dataset.spec = dataclasses.replace(dataset.spec, classes=tuple(names))
    console = Console(record=True, width=200, file=io.StringIO())
    console.print(data_report.describe({"val": dataset}, {"val": statistics}))
    assert set(names) <= set(rows(console.export_text()))


def test_pictures_are_in_the_datasets_colours(streets):
    figure = data_report.draw(streets["train"], count=5)
    assert figure.texts[0].get_text() == "streets/tiny/1.0.0 · train"
    assert [text.get_text() for text in figure.texts[1:]] == ["000000", "000001", "000002"]
    *panels, legend, bar = figure.axes
    for row in range(3):
        sample = streets["train"][row]
        expected = (
            sample["image"],
            viz.colorize_semseg(sample["semseg"], streets["train"].spec),
            viz.colorize_depth(streets["train"].metres(sample), (4.0, 300.0)),
        )
        for axes, picture in zip(panels[3 * row : 3 * row + 3], expected, strict=True):
            np.testing.assert_array_equal(axes.images[0].get_array(), picture)
    present = np.unique([streets["train"][row]["semseg"] for row in range(3)])
    names = [text.get_text() for text in legend.get_legend().get_texts()]
    assert names == [streets["train"].spec.classes[i] for i in present if i < 19]
    assert bar.get_xticklabels()[0].get_text() == "5 m"


def test_images_of_many_sizes_and_no_labels_are_drawn(tmp_path):
    spec = data.DataSpec("folder", ("a",), ((9, 9, 9),))
    sizes = [(20, 40), (40, 20)]
    figure = viz.plot_samples(
        [np.zeros((*size, 3), np.uint8) for size in sizes],
        [np.full(size, 255, np.uint8) for size in sizes],
        [np.zeros(size, np.float32) for size in sizes],
        spec,
        ["first", "a name that is far too long for the height of its row"],
        "folder",
    )
    boxes = [axes.get_window_extent() for axes in figure.axes[:6]]
    assert [box.height / box.width for box in boxes] == pytest.approx([0.5] * 3 + [2.0] * 3, rel=0.01)
    viz.save_figure(tmp_path / "samples.png", figure, dpi=50)
    assert figure.texts[-1].get_text().startswith("…") and len(figure.texts[-1].get_text()) == 26
