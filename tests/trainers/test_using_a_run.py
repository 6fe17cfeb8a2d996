"""What a person does with a finished run: measure it, predict with it, hand its predictions in."""

import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zoo
from mtl_keras import UserError, data
from mtl_keras.data.depth_encoding import decode_depth
from tests.data.conftest import write_miniscapes
from tests.runs import decisive_model, write_run
from trainers import submission
from trainers.config import read_config

# Names may have 255 bytes.
LONGEST, TOO_LONG = "l" * 251, "m" * 250


@pytest.fixture(scope="module")
def run(module_path):
    """A run on 70×100 images, which evaluation cuts to 64×96; one of those to train on is damaged."""
    folder = module_path
    write_miniscapes(folder / "source", {"train": 4, "val": 3, "test": 2}, size=(70, 100))
    (folder / "source" / "train" / "rgb" / "3.jpg").write_bytes(b"no image")
    model = decisive_model("joint")
    return write_run(
        folder,
        model,
        arch="joint",
        dataset="miniscapes",
        data_dir=str(folder / "source"),
        prepared_dir=str(folder / "prepared"),
        skip_bad_files=True,
    )


@pytest.fixture(scope="module")
def evaluated(run, command):
    """The run's evaluations/val with an archive, and what the command said."""
    # A model.keras that is older than the best checkpoint must not be what is measured.
    (run.path / "model.keras").write_bytes(b"stale")
    process = command("evaluate", str(run.path), "--submission", "--batch_size=2")
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return run.path / "evaluations" / "val", output


def split(run, name: str) -> data.Dataset:
    return data.load("miniscapes", name, **read_config(run.config).source)


def test_evaluation_measures_the_final_predictions_of_the_best_checkpoint(run, evaluated):
    results = json.loads((evaluated[0] / "metrics.json").read_text())
    model = zoo.load(run.path)
    model.compile()
    loader = data.Loader(split(run, "val"), 3, data.EvalView(), shuffle=False, drop_remainder=False, cache="none")
    logs = model.evaluate(loader, verbose=0, return_dict=True)
    for name in ("grader", "miou", "silog"):
        assert results[name] == pytest.approx(logs[name], rel=1e-4)
    assert results["about"]["checkpoint"] == "best" and results["about"]["images"] == 3
    assert f"{results['silog']:.2f}" in evaluated[1]


def test_the_report_names_every_measure_and_shows_the_figures(evaluated):
    report = (evaluated[0] / "README.md").read_text()
    for name in ("silog", "log_rmse", "rel", "sq_rel", "rel_squared", "inv_rmse", "delta3", "miou_present"):
        assert f"| {name}" in report
    for figure in ("confusion", "calibration", "distance"):
        assert f"({figure}.png)" in report
        with Image.open(evaluated[0] / f"{figure}.png") as picture:
            assert picture.width > 400


def test_the_archive_holds_the_predictions_in_their_encodings(run, evaluated):
    model, dataset = zoo.load(run.path), split(run, "val")
    with zipfile.ZipFile(evaluated[0] / "submission.zip") as archive:
        for name in ("metrics.json", "config.json", "README.md"):
            assert str(run.path.parent) not in archive.read(name).decode(), name
        for index in range(len(dataset)):
            expected = model.predict_images(dataset[index]["image"][:64, :96])
            semseg, depth = (
                Image.open(io.BytesIO(archive.read(f"predictions/{kind}/{dataset.id(index)}.png")))
                for kind in ("semseg", "depth")
            )
            assert semseg.mode == "P" and depth.mode == "L"
            assert np.mean(np.asarray(semseg) == expected.semseg) > 0.999
            # Half a step of the inverse depth is the most that rounding may change.
            inverse = 1 / decode_depth(np.asarray(depth), "inverse") - 1 / expected.depth
            assert np.abs(inverse).max() < 0.51 * (1 / 4 - 1 / 300) / 254
    assert (evaluated[0] / "submission.zip").stat().st_size < 200_000


def test_the_checker_scores_what_the_archive_says(run, evaluated, command):
    prepared = read_config(run.config).prepared_dir
    process = command("submission", str(evaluated[0] / "submission.zip"), f"--prepared_dir={prepared}")
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    results = json.loads((evaluated[0] / "metrics.json").read_text())
    words = output.split()
    assert float(words[words.index("mIoU") + 1]) == pytest.approx(results["miou"], abs=0.006)
    assert float(words[-1]) == pytest.approx(results["silog"], abs=0.5)


def test_an_archive_does_not_say_where_anything_lies(run, evaluated, tmp_path, command):
    strange, silent = tmp_path / "strange.zip", tmp_path / "silent.zip"
    settings = json.loads(run.config.read_text()) | {"dataset": "streets", "prepared_dir": str(tmp_path / "there")}
    for path, members in ((strange, {"config.json": json.dumps(settings)}), (silent, {})):
        with zipfile.ZipFile(path, "w") as file:
            for name, text in members.items():
                file.writestr(name, text)
    here = tmp_path / "here"
    here.touch()
    for path, message in ((strange, "cannot prepare streets in "), (silent, "silent.zip: holds no config.json")):
        process = command("submission", str(path), TFDS_DATA_DIR=str(here))
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 2 and message in errors
    assert not (tmp_path / "there").exists()


def test_the_checker_names_what_is_wrong(run, evaluated, tmp_path):
    broken = tmp_path / "submission.zip"
    with zipfile.ZipFile(evaluated[0] / "submission.zip") as good, zipfile.ZipFile(broken, "w") as bad:
        names = [name for name in good.namelist() if name.startswith("predictions/")]
        contents = {name: good.read(name) for name in names}
        contents[names[0]] = contents[names[0]][:-100]
        contents[names[1]] = _png(np.zeros((64, 96), np.uint8))
        contents[names[2]] = _png(np.full((64, 96), 19, np.uint8))
        contents[names[3]] = _png(np.ones((32, 96), np.uint8))
        del contents[names[4]]
        contents["predictions/semseg/../../escape.png"] = b"x"
        contents["predictions/semseg/stranger.png"] = b"x"
        for name, content in contents.items():
            bad.writestr(name, content)
    problems, _ = submission.check(broken, split(run, "val"))
    reasons = ["truncated", "pixels without depth", "ids up to 19", "32×96 px, expected 64×96", "missing"]
    for name, reason in zip(names, reasons, strict=False):
        assert any(name in problem and reason in problem for problem in problems), (name, problems)
    assert any("escape.png" in problem and "not the name" in problem for problem in problems)
    assert any("stranger.png" in problem and "no such sample" in problem for problem in problems)
    assert len(problems) == 7 and not (tmp_path / "escape.png").exists()


def _png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def predicted(run, module_path, command):
    """Outputs for a folder of good and bad files, and what the command said."""
    folder = module_path / "inputs"
    (folder / "below").mkdir(parents=True)
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (45, 70, 3), np.uint8) for name in ("street.png", "below/street.png")}
    for name, image in images.items():
        Image.fromarray(image).save(folder / name)
    Image.fromarray(images["street.png"]).save(folder / "street.jpg")
    (folder / "notes.png").write_text("no image")
    shutil.copyfile(folder / "street.png", folder / "torn.png")
    with open(folder / "torn.png", "r+b") as file:
        file.truncate(2000)
    (folder / "alias.png").symlink_to("street.png")
    (folder / "dangling.png").symlink_to("nowhere.png")
    os.mkfifo(folder / "pipe.png")
    shutil.copyfile(folder / "street.png", folder / f"{LONGEST}.png")
    # Told apart by their suffixes, these get names that no folder can hold.
    for suffix in ("png", "jpg"):
        shutil.copyfile(folder / f"street.{suffix}", folder / f"{TOO_LONG}.{suffix}")
    # Brackets that Rich would take for markup.
    out = module_path / "predicted [/x]"
    process = command("predict", str(run.path), str(folder), str(folder / "none*.png"), f"--out={out}", "--tta=flip")
    output, errors = process.communicate(timeout=300)
    return images, out, process.returncode, output, errors


def test_bad_files_are_named_and_the_others_predicted(predicted):
    images, out, status, output, errors = predicted
    assert status == 1 and f"5 images in {out}:" in output
    lines = errors[errors.index("error: 7 not predicted:") :].splitlines()
    assert len(lines) == 8
    for name, reason in (
        ("none*.png", "no such"),
        ("notes.png", "not a PNG or JPEG"),
        ("torn.png", "damaged"),
        ("dangling.png", "No such file"),
        ("pipe.png", "not a file"),
        (f"{TOO_LONG}_png.png", "cannot be written (File name too long); rename"),
        (f"{TOO_LONG}_jpg.png", "cannot be written (File name too long); rename"),
    ):
        assert any(name in line and reason in line for line in lines)
    for kind in ("overlay", "semseg", "depth", "depth8", "picture"):
        files = {path.relative_to(out / kind).as_posix() for path in (out / kind).rglob("*.*")}
        assert files == {"street_png.png", "street_jpg.png", "below/street.png", "alias.png", f"{LONGEST}.png"}


def test_predicted_files_hold_what_predict_images_says(run, predicted):
    images, out, *_ = predicted
    prediction = zoo.load(run.path).predict_images(images["below/street.png"], flip=True)
    semseg, depth, depth8 = (_pixels(out / kind / "below" / "street.png") for kind in ("semseg", "depth", "depth8"))
    assert np.mean(semseg == prediction.semseg) > 0.999
    metres = depth.astype("float64") / 256
    assert depth.dtype == np.uint16
    np.testing.assert_allclose(metres, np.minimum(prediction.depth, 65535 / 256), atol=1.01 / 512, rtol=1e-4)
    codes = depth8.astype(int)
    expected = 1 + 254 * (1 / prediction.depth - 1 / 300) / (1 / 4 - 1 / 300)
    assert np.abs(codes - expected).max() < 0.51


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_what_a_person_gets_wrong_is_one_line(run, tmp_path, command):
    """Each with status 2, and the commands run side by side."""
    empty = tmp_path / "empty"
    empty.mkdir()
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copyfile(run.config, bare / "config.json")
    picture = tmp_path / "picture.png"
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(picture)
    evil = tmp_path / "evil.keras"
    _keras_file_with_code(evil)
    out = f"--out={tmp_path / 'out'}"
    cases = [
        (("predict", str(run.path), str(empty), out), "a folder without images"),
        (("predict", str(run.path), str(picture)), "out: no folder"),
        (("predict", str(run.path), str(picture), out, "--tta=mirror"), "tta: 'mirror'"),
        (("predict", str(run.path), str(picture), out, "--window=512"), "window: '512'"),
        (("predict", str(run.path), str(picture), out, "--only=overlay,normals"), "only: 'normals' is unknown"),
        (("predict", str(run.path), str(picture), f"--out={picture}"), "picture.png is a file; give a folder"),
        (("evaluate", str(run.path), f"--out={picture / 'out'}"), "picture.png is a file; give a folder"),
        (("export", str(run.path), f"--out={picture / 'out'}"), "picture.png is a file; give a folder"),
        (("predict", str(bare), str(picture), out), "no model in it yet"),
        (("predict", str(empty), str(picture), out), "no run, for it has no config.json"),
        (("predict", str(evil), str(picture), out), "cannot be loaded"),
        (("evaluate", str(tmp_path / "none")), "no such run or file"),
        (("evaluate", str(run.path), "--dataset=streets/none"), "unknown dataset"),
        (("export", str(run.path), "--format=tflite"), "format: 'tflite' is unknown"),
        (("export", str(run.path), "--format="), "format: '' is unknown"),
        (("submission", str(picture)), "cannot be read as a zip file"),
    ]
    for first in range(0, len(cases), 2):
        started = [(command(*arguments), message) for arguments, message in cases[first : first + 2]]
        for process, message in started:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 2, (message, errors)
            assert len(errors.splitlines()) == 1 and errors.startswith("error: ") and message in errors, errors
    assert not (tmp_path / "out").exists()


def test_a_command_that_did_nothing_ends_like_one_that_could_not(run, tmp_path, command):
    torn, out = tmp_path / "torn.png", tmp_path / "out"
    torn.write_text("no image")
    (out / "saved_model").mkdir(parents=True)
    (out / "model.bin").touch()  # what OpenVINO would call its weights
    formats = "--format=saved_model,openvino"
    for started, heading, failures in (
        (command("predict", str(run.path), str(torn), f"--out={out}"), "error: 1 not predicted:", 1),
        (command("export", str(run.path), f"--out={out}", formats), "error: 2 not exported:", 2),
    ):
        _, errors = started.communicate(timeout=120)
        assert started.returncode == 2
        assert len(errors[errors.index(heading) :].splitlines()) == 1 + failures


def _keras_file_with_code(path: Path) -> None:
    import keras

    layer = keras.layers.Lambda(lambda x: x + 1)
    keras.Sequential([keras.Input((2,)), layer]).save(path)


def test_the_files_of_a_run_know_their_run(run, tmp_path):
    from trainers.run_folder import home_of, run_of

    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.keras").touch()
    sources = (run.path, run.path / "model.keras", run.best, tmp_path / "other", tmp_path / "other" / "model.keras")
    assert [run_of(str(source)) for source in sources] == [*3 * [str(run.path)], None, None]
    assert [home_of(str(source)) for source in sources] == [*3 * [run.path], *2 * [tmp_path / "other"]]


def test_a_new_evaluation_never_writes_over_an_old_one(run, evaluated, tmp_path):
    from trainers.run_folder import folder_for

    assert folder_for(str(run.path), None, "evaluations/val") == run.path / "evaluations" / "val-2"
    assert folder_for(str(run.path), str(tmp_path), "evaluations/val") == tmp_path


def test_a_folder_that_cannot_be_written_to_is_told_before_there_is_work(tmp_path, monkeypatch):
    from trainers.run_folder import writable

    assert writable(tmp_path / "new" / "folder") == tmp_path / "new" / "folder"
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(UserError, match=f"runs_dir: {tmp_path} cannot be written to; give another folder"):
        writable(tmp_path / "new" / "folder", "runs_dir")
    assert not list(tmp_path.iterdir())


def test_each_name_is_an_input_once(tmp_path, monkeypatch):
    from trainers.inputs import find

    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").touch()
    (tmp_path / "a" / "link.png").symlink_to("x.png")
    (tmp_path / "b").symlink_to("a")
    monkeypatch.chdir(tmp_path)
    found, problems = find(["a", "b", "a/x.png", "a/../a/x.png", str(tmp_path / "a" / "*.png")])
    assert [item.name for item in found] == ["link", "x"] and problems == []


def test_a_folder_is_searched_as_those_of_datasets_are(tmp_path):
    from trainers.inputs import find

    for name in ("a.jpg", "b.webp", "depth.npy", ".hidden/c.jpg", "notes.txt"):
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "d.png").touch()
    (tmp_path / "folder" / "linked").symlink_to(tmp_path / "elsewhere")
    found, problems = find([str(tmp_path / "folder")])
    assert sorted(item.name for item in found) == ["a", "linked/d"]
    assert problems == [f"{tmp_path / 'folder' / 'b.webp'}: .webp is not read; make it PNG or JPEG"]


def test_an_input_is_never_written_over(tmp_path):
    from mtl_keras import UserError
    from trainers.inputs import find
    from trainers.predict import KINDS, Writer

    (tmp_path / "overlay").mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "overlay" / "a.png")
    found, problems = find([str(tmp_path / "overlay" / "*.png")])
    assert problems == [] and len(found) == 1
    with pytest.raises(UserError, match="is an input too"):
        Writer(tmp_path, KINDS, found)


def test_video_frames_are_numbered(tmp_path):
    av = pytest.importorskip("av")
    from trainers.inputs import find

    path = tmp_path / "drive.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in (0, 100, 200):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (item,), _ = find([str(path)])
    frames = dict(item.frames())
    assert list(frames) == ["drive/000000", "drive/000001", "drive/000002"]
    assert [round(float(frame.mean()), -1) for frame in frames.values()] == [0, 100, 200]
