"""A video comes back as a video."""

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtl_keras import viz
from mtl_keras.errors import UserError
from mtl_keras.inference import Prediction
from tests import harness
from tests.runs import decisive_model, write_run
from trainers import inputs, predict, video

av = pytest.importorskip("av")

NTSC = Fraction(30000, 1001)
LUMA = np.array([0.2126, 0.7152, 0.0722])


def write_video(path: Path, images: list[np.ndarray], rate: Fraction = NTSC, rotation: int = 0) -> Path:
    """A lossless video, so that what is read is what was written."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1" if path.suffix == ".mkv" else "libx264rgb", rate=rate)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "bgr0" if path.suffix == ".mkv" else "rgb24"
        stream.codec_context.options = {} if path.suffix == ".mkv" else {"qp": "0"}
        stream.set_display_rotation(rotation)
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode())
    return path


def street(frames: int, height: int = 45, width: int = 71) -> list[np.ndarray]:
    """Frames in which a bright square goes to the right over a smooth ground."""
    rows, columns = np.mgrid[:height, :width]
    ground = np.stack([rows * 3, columns * 2, rows + columns], axis=-1).astype(np.uint8)
    images = [ground.copy() for _ in range(frames)]
    for index, image in enumerate(images):
        image[10:26, 5 * index : 5 * index + 16] = (240, 200, 40)
    return images


def read_video(path: Path) -> tuple[np.ndarray, Fraction]:
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]), rate


def decibels(image: np.ndarray, expected: np.ndarray) -> float:
    """Peak signal-to-noise ratio of 8-bit images."""
    return 10 * np.log10(255**2 / np.mean((image - expected) ** 2.0))


def halved(image: np.ndarray) -> np.ndarray:
    height, width, _ = image.shape
    return image.reshape(height // 2, 2, width // 2, 2, 3).mean(axis=(1, 3))


def prediction_of(image: np.ndarray) -> Prediction:
    """Class 1 where it is bright, class 0 elsewhere."""
    return Prediction((image[..., 0] > 200).astype("uint8"), np.full(image.shape[:2], 10.0, "float32"))


def write_all(out: Path, found: list[inputs.Input], progress: predict.Progress) -> None:
    predicted = ((name, image, prediction_of(image)) for name, image in predict.read(found, progress))
    with predict.Writer(out, ("overlay",), found) as writer:
        predict.write(predicted, writer, harness.spec(), progress)


def test_the_command_gives_an_overlay_of_the_videos_own_length_size_and_rate(tmp_path, command):
    # Without a decoder classes are large areas; noise of single pixels is what H.264 keeps worst.
    model = decisive_model("joint", skip=False)
    run = write_run(tmp_path, model, arch="joint", skip=False)
    images = street(7)
    source = write_video(tmp_path / "drive one.mkv", images)
    out = tmp_path / "out"
    process = command("predict", str(run.path), str(source), f"--out={out}", "--only=overlay,semseg", "--batch_size=3")
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0 and "7 images in" in output, errors
    files = {path.relative_to(out).as_posix() for path in out.rglob("*.*")}
    assert files == {"overlay/drive one.mp4", *(f"semseg/drive one/{index:06d}.png" for index in range(7))}
    frames, rate = read_video(out / "overlay" / "drive one.mp4")
    # Both sides are odd: each is one longer, and what is added repeats the edge.
    assert frames.shape == (7, 46, 72, 3) and rate == NTSC
    spec = model.spec
    for index, (frame, image) in enumerate(zip(frames, images, strict=True)):
        with Image.open(out / "semseg" / "drive one" / f"{index:06d}.png") as picture:
            expected = viz.overlay(image, np.asarray(picture), spec)
        # H.264 keeps brightness (BT.709's) at full and colours at half resolution.
        assert decibels(frame[:45, :71] @ LUMA, expected @ LUMA) > 36
        assert decibels(halved(frame[:44, :70]), halved(expected[:44, :70])) > 30
    assert np.abs(frames[:, 45].astype(int) - frames[:, 44]).mean() < 12


def test_its_colours_are_those_of_the_classes(tmp_path):
    """Flat colours lose nothing to the halved resolution; a wrong colour space would shift them by up to 20 levels."""
    for index, color in enumerate([(128, 64, 128), (220, 20, 60), (0, 0, 142), (107, 142, 35), (255, 255, 255)]):
        path = tmp_path / f"{index}.mp4"
        with video.writing(path, NTSC) as write:
            write(np.full((720, 1280, 3), color, np.uint8))
        frames, _ = read_video(path)
        assert np.abs(frames[0].astype(int) - color).max() <= 3, color


def test_two_videos_and_an_image_between_them_do_not_mix(tmp_path):
    write_video(tmp_path / "a.mkv", street(4), rate=Fraction(10))
    Image.fromarray(street(1)[0]).save(tmp_path / "b.png")
    write_video(tmp_path / "c.mkv", street(6), rate=Fraction(25))
    found, _ = inputs.find([str(tmp_path)])
    assert inputs.count(found) in (None, 11)  # Matroska need not say
    write_all(tmp_path / "out", found, predict.Progress())
    assert sorted(path.name for path in (tmp_path / "out" / "overlay").iterdir()) == ["a.mp4", "b.png", "c.mp4"]
    for name, count, rate in (("a", 4, 10), ("c", 6, 25)):
        frames, its_rate = read_video(tmp_path / "out" / "overlay" / f"{name}.mp4")
        assert (len(frames), its_rate) == (count, rate)


def test_a_phones_video_is_turned_upright(tmp_path):
    """A phone held upright writes lying frames, and a note that they are to be turned."""
    images = street(2, 48, 64)
    for degrees in (0, 90, 180, -90):
        path = write_video(tmp_path / f"turned{degrees}.mp4", images, rotation=degrees)
        (item,), _ = inputs.find([str(path)])
        for (_, frame), image in zip(item.frames(), images, strict=True):
            upright = image if not degrees else np.asarray(Image.fromarray(image).rotate(degrees, expand=True))
            np.testing.assert_array_equal(frame, upright)
        assert item.count() == 2


def test_a_video_beside_a_folder_of_its_frames_is_kept_apart(tmp_path):
    (tmp_path / "drive").mkdir()
    Image.fromarray(street(1)[0]).save(tmp_path / "drive" / "000000.png")
    write_video(tmp_path / "drive.mkv", street(2))
    found, _ = inputs.find([str(tmp_path)])
    names = [name for item in found for name, _ in item.frames()]
    assert sorted(names) == ["drive/000000", "drive_mkv/000000", "drive_mkv/000001"]


def test_what_could_be_read_of_a_damaged_video_is_kept_and_the_damage_named(tmp_path):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(20)]
    path = write_video(tmp_path / "torn.mkv", noise)
    half = path.stat().st_size // 2
    path.write_bytes(path.read_bytes()[:half] + rng.integers(0, 256, half, np.uint8).tobytes())
    found, _ = inputs.find([str(path)])
    progress = predict.Progress()
    write_all(tmp_path / "out", found, progress)
    frames, _ = read_video(tmp_path / "out" / "overlay" / "torn.mp4")
    assert 0 < len(frames) < 20
    (failure,) = progress.failures
    assert failure.startswith(f"{path}: damaged after {len(frames)} frames (")


def test_one_that_is_interrupted_leaves_nothing(tmp_path):
    path = write_video(tmp_path / "drive.mkv", street(3))
    found, _ = inputs.find([str(path)])
    with pytest.raises(KeyboardInterrupt), predict.Writer(tmp_path / "out", ("overlay",), found) as writer:
        writer.write("drive/000000", street(1)[0], prediction_of(street(1)[0]), harness.spec())
        raise KeyboardInterrupt
    assert not list((tmp_path / "out").rglob("*.*"))


def test_a_video_is_never_written_over_itself(tmp_path):
    (tmp_path / "overlay").mkdir()
    path = write_video(tmp_path / "overlay" / "drive.mp4", street(2, 48, 64))
    found, _ = inputs.find([str(path)])
    with pytest.raises(UserError, match="is an input too"):
        predict.Writer(tmp_path, predict.KINDS, found)


def test_one_whose_overlay_can_have_no_such_name_is_told_once_and_the_others_kept(tmp_path):
    for suffix in ("mkv", "mov"):  # which tell the names apart, and make them too long
        write_video(tmp_path / f"{'v' * 250}.{suffix}", street(3, 48, 64))
    write_video(tmp_path / "w.mkv", street(2))
    found, _ = inputs.find([str(tmp_path)])
    progress = predict.Progress()
    write_all(tmp_path / "out", found, progress)
    assert [path.name for path in (tmp_path / "out" / "overlay").iterdir()] == ["w.mp4"] and progress.images == 2
    assert len(progress.failures) == 2 and all("File name too long" in line for line in progress.failures)


def test_a_pipe_under_a_videos_name_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "live.mp4")
    found, _ = inputs.find([str(tmp_path)])
    progress = predict.Progress()
    assert inputs.count(found) == 0 and not list(predict.read(found, progress))
    assert progress.failures == [f"{tmp_path / 'live.mp4'}: not a file"]


def test_where_it_cannot_be_written_is_told(tmp_path):
    path = write_video(tmp_path / "drive.mkv", street(2))
    found, _ = inputs.find([str(path)])
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match="drive.mp4 cannot be written"):
        write_all(tmp_path / "out", found, predict.Progress())
