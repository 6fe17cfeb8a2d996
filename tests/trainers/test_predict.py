"""What outputs are called, which are written, and how fast they came."""

import types

import numpy as np
import pytest
from PIL import Image

from mtl_keras.data import DataSpec
from mtl_keras.inference import Options
from tests.runs import decisive_model, write_run
from trainers import predict
from trainers.inputs import find


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["cam/left", "cam/right"], ["left/a", "left/b", "right/a"]),
        (["cam/*/a.*"], ["left/a", "right/a"]),
        (["cam/right", "cam/left/b.png"], ["a", "b"]),
        (["cam/left", "cam/right", "a.png"], ["cam/left/a", "cam/left/b", "cam/right/a", "a"]),
        (["cam/right", "linked"], ["cam/right/a", "linked/a", "linked/b"]),
        (["a.png", "a.jpg"], ["a_png", "a_jpg"]),
        (["a.png", "a.jpg", "cam/right"], ["a_png", "a_jpg", "cam/right/a"]),
    ],
)
def test_images_of_several_folders_are_told_apart_by_these(tmp_path, monkeypatch, arguments, names):
    for name in ("cam/left/a.png", "cam/left/b.png", "cam/right/a.jpg", "a.png", "a.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "linked").symlink_to("cam/left")
    monkeypatch.chdir(tmp_path)
    found, problems = find(arguments)
    assert [item.name for item in found] == names and problems == []


def test_the_first_batch_of_each_shape_is_left_out_of_the_networks_rate(monkeypatch):
    clock = [0.0]

    def network(model, images, options):
        first = images.shape not in shapes
        shapes.add(images.shape)
        clock[0] += 100 if first else 2
        return images

    shapes: set[tuple[int, ...]] = set()
    monkeypatch.setattr(predict, "time", types.SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(predict, "predict_batch", network)
    sizes = 5 * [(32, 64)] + 2 * [(64, 32)] + 4 * [(32, 64)]
    frames = ((str(index), np.zeros((*size, 3), np.uint8)) for index, size in enumerate(sizes))
    progress = predict.Progress()
    assert len(list(predict.predictions(None, frames, Options(batch_size=2), progress))) == 11
    # Of three batches of two, a last one of one, one turned and two more, these are compiled for: 0, 2 and 3.
    assert (progress.timed, progress.seconds) == (6, 6.0)


@pytest.mark.parametrize(
    ("depth_range", "fits"), [((4, 300), True), ((5, 65), True), ((0.5, 65), False), ((4, 301), False)]
)
def test_depth_that_8_bits_would_clamp_is_not_written_unasked(depth_range, fits):
    kinds = predict.usual_kinds(DataSpec("near", depth_range=depth_range))
    assert kinds == tuple(kind for kind in predict.KINDS if fits or kind != "depth8")


def test_the_command_writes_what_it_can_say_well(tmp_path, command):
    """A model of near depth, images of one name in two folders, and one batch alone."""
    model = decisive_model("joint", skip=False, spec=DataSpec("near", depth_range=(0.5, 65.0)))
    run = write_run(tmp_path, model, arch="joint", skip=False)
    sources = [tmp_path / "cam" / side for side in ("left", "right")]
    for source in sources:
        source.mkdir(parents=True)
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 70, 3), np.uint8)).save(source / "img000.png")
    usual, asked = tmp_path / "usual", tmp_path / "asked"
    started = (
        command("predict", str(run.path), *map(str, sources), f"--out={usual}"),
        command("predict", str(run.path), str(sources[0]), f"--out={asked}", "--only=depth8"),
    )
    (output, errors), (alone, more_errors) = (process.communicate(timeout=300) for process in started)
    assert [process.returncode for process in started] == [0, 0], errors + more_errors
    files = {path.relative_to(usual).as_posix() for path in usual.rglob("*.*")}
    kinds = ("overlay", "semseg", "depth", "picture")
    assert files == {f"{kind}/{side}/img000.png" for kind in kinds for side in ("left", "right")}
    assert [path.relative_to(asked).as_posix() for path in asked.rglob("*.*")] == ["depth8/img000.png"]
    assert output.startswith(f"2 images in {usual}: ") and "through the network" in output
    assert alone.startswith(f"1 image in {asked}: ") and "through the network" not in alone
