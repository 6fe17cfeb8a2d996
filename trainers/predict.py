"""Predicts images and videos: `python -m trainers.predict RUN INPUT… --out DIR`.

INPUT is a file, a folder, a glob or a video (PNG, JPEG; videos need PyAV, of requirements-extras.txt). Below --out
there is a folder for each kind of output, with a file for each image. It is called by the image's path below the folder
that was given, or by its own name; where images of several folders would be called the same, all are called by their
paths below the folder that they have in common.

- `overlay/`: the image under the colours of its classes.
- `semseg/`: class ids, a palette PNG of train ids. Cityscapes' own evaluation takes label ids: `trainId2label` of
  cityscapesScripts has them.
- `depth/`: a 16-bit PNG of metres × 256, as KITTI has it; the farthest it can hold is 255.996 m.
- `depth8/`: an 8-bit PNG of inverse depth, as Miniscapes has it (4–300 m; what lies outside is clamped). Of a model
  whose depth range goes beyond these, it is written only where `--only=depth8` asks for it.
- `picture/`: image, classes with a legend and depth with a bar in metres, side by side.

Of a video `drive.mov`, the overlay is a video too: `overlay/drive.mp4` (H.264, without sound), upright, at the source's
average rate of frames; where a side is odd, its last row or column stands there twice. The other kinds, whose values a
video would blur, have a folder `drive/` with a file for each frame; `--only=overlay` leaves them out.

What cannot be read, or written under its name, is named and passed over; the exit status is then 1, and 2 where
nothing was predicted.
"""

import contextlib
import dataclasses
import itertools
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from rich.progress import track

import zoo
from mtl_keras import prediction_files, viz
from mtl_keras.data import DataSpec
from mtl_keras.data.depth_encoding import INVERSE_DEPTH_RANGE
from mtl_keras.data.images import BadFile
from mtl_keras.errors import UserError
from mtl_keras.inference import Options, Prediction, predict_batch
from mtl_keras.model import MultiTaskModel
from trainers import cli, inputs, outputs, prediction_flags, video
from trainers.inputs import Input
from trainers.run_folder import writable

FLAGS = flags.FLAGS
KINDS = ("overlay", "semseg", "depth", "depth8", "picture")

flags.DEFINE_string("out", None, "folder to write to")
flags.DEFINE_multi_string(
    "only",
    [],
    f"write these kinds of output only, of {','.join(KINDS)}; all by default, but depth8 only for a model whose "
    "depth range lies within {:g}–{:g} m".format(*INVERSE_DEPTH_RANGE),
)
prediction_flags.define()


@dataclasses.dataclass
class Progress:
    """What was done so far.

    Args:
        images: how many were predicted and written.
        timed: how many the network was timed with: not those of the first batch of each shape, for which it compiles.
        seconds: what the network took for these.
        failures: a line for each thing that failed.
    """

    images: int = 0
    timed: int = 0
    seconds: float = 0.0
    failures: list[str] = dataclasses.field(default_factory=list)

    def note(self, error: Exception) -> None:
        """Notes what failed, once: the frames of a video may fail alike."""
        if str(error) not in self.failures:
            self.failures.append(str(error))


def main(arguments: list[str]) -> int | None:
    if len(arguments) < 2:
        raise UserError("give a run and something to predict: `python -m trainers.predict RUN INPUT… --out DIR`")
    if not FLAGS.out:
        raise UserError("out: no folder to write to; add --out=DIR")
    options, out, asked = prediction_flags.options(), writable(Path(FLAGS.out)), _asked()

    found, problems = inputs.find(arguments[1:])
    if not found:
        raise UserError("; ".join(problems))
    model = zoo.load(arguments[0])
    writer = Writer(out, asked or usual_kinds(model.spec), found)
    console = cli.console()
    progress, started = Progress(failures=problems), time.monotonic()
    frames = track(
        read(found, progress),
        "predicting",
        total=inputs.count(found),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with writer:
        write(predictions(model, iter(frames), options, progress), writer, model.spec, progress)
    return _summary(console, progress, out, time.monotonic() - started)


def _asked() -> tuple[str, ...]:
    """Which kinds of output the flag names, in one list or several."""
    asked = [kind.strip() for given in FLAGS.only for kind in given.split(",")]
    if unknown := [kind for kind in asked if kind not in KINDS]:
        raise UserError(f"only: '{unknown[0]}' is unknown; use one or more of {', '.join(KINDS)}")
    return tuple(dict.fromkeys(asked))


def usual_kinds(spec: DataSpec) -> tuple[str, ...]:
    """Which kinds of output are written where none is asked for: those that can hold a model's depth."""
    return tuple(kind for kind in KINDS if kind != "depth8" or prediction_files.fits_8_bits(spec))


def read(items: Iterable[Input], progress: Progress) -> Iterator[tuple[str, Any]]:
    """Names and images of all inputs; notes what cannot be read, and goes on."""
    for item in items:
        try:
            yield from item.frames()
        except (BadFile, UserError) as error:
            progress.note(error)


def predictions(
    model: MultiTaskModel, frames: Iterator[tuple[str, Any]], options: Options, progress: Progress
) -> Iterator[tuple[str, Any, Prediction]]:
    """Names, images and predictions; neighbours of one size go through the network together."""
    seen = set()
    for _, same_size in itertools.groupby(frames, key=lambda frame: frame[1].shape):
        while batch := list(itertools.islice(same_size, options.batch_size)):
            images = np.stack([image for _, image in batch])
            started = time.monotonic()
            predicted = predict_batch(model, images, options)
            if images.shape in seen:
                progress.seconds += time.monotonic() - started
                progress.timed += len(batch)
            seen.add(images.shape)
            for (name, image), prediction in zip(batch, predicted, strict=True):
                yield name, image, prediction


def write(predicted: Iterable[tuple[str, Any, Prediction]], writer: "Writer", spec: Any, progress: Progress) -> None:
    """Writes names, images and predictions; notes what cannot be written under its name, and goes on."""
    for name, image, prediction in predicted:
        try:
            writer.write(name, image, prediction, spec)
            progress.images += 1
        except BadFile as error:
            progress.note(error)


class Writer(contextlib.AbstractContextManager):
    """Writes predictions as files below a folder; leaving its context ends the video that is being written.

    Args:
        out: the folder.
        kinds: which of `KINDS` to write.
        items: what is read; none of it is ever written over.

    Raises:
        UserError: an output would lie where an input lies.
    """

    def __init__(self, out: Path, kinds: tuple[str, ...], items: list[Input]):
        self.out = out
        self.kinds = kinds
        self._videos = {item.name: item for item in items if item.is_video}
        self._video: str | None = None
        self._open = contextlib.ExitStack()
        read = {os.path.realpath(item.path) for item in items}
        for item in items:
            for path in [self.path(kind, item.name) for kind in kinds] + [self.video_path(item.name)] * item.is_video:
                if os.path.realpath(path) in read:
                    raise UserError(f"out: {path} is an input too; give another --out")

    def __exit__(self, *exception) -> None:
        self._open.__exit__(*exception)

    def path(self, kind: str, name: str) -> Path:
        return self.out / kind / f"{name}.png"

    def video_path(self, name: str) -> Path:
        return self.out / "overlay" / f"{name}.mp4"

    def write(self, name: str, image: Any, prediction: Prediction, spec: Any) -> None:
        """Writes the outputs of one image, each whole or not at all; what a run before it wrote is replaced.

        Raises:
            BadFile: one cannot be written under its name.
            UserError: the folder cannot be written to.
        """
        semseg, depth = prediction.semseg, prediction.depth
        make = {
            "overlay": lambda: viz.encode_png(viz.overlay(image, semseg, spec)),
            "semseg": lambda: prediction_files.semseg_png(semseg, spec),
            "depth": lambda: prediction_files.depth_16_png(depth),
            "depth8": lambda: prediction_files.depth_8_png(depth),
            "picture": lambda: viz.encode_png(np.asarray(viz.side_by_side(image, semseg, depth, spec))),
        }
        source = name.rpartition("/")[0]
        for kind in self.kinds:
            if kind == "overlay" and source in self._videos:
                self._add_to_video(source, viz.overlay(image, semseg, spec))
            else:
                outputs.write(self.path(kind, name), make[kind]())

    def _add_to_video(self, name: str, overlay: Any) -> None:
        """Adds a frame to a video's overlay; videos come one after the other."""
        if name != self._video:
            self._open.close()
            rate, _ = video.about(self._videos[name].path)
            self._add = self._open.enter_context(video.writing(self.video_path(name), rate))
            self._video = name
        self._add(overlay)


def _summary(console: Any, progress: Progress, out: Path, seconds: float) -> int | None:
    if progress.images:
        noun = "image" if progress.images == 1 else "images"
        rate = f"{progress.images / max(seconds, 1e-9):.2f} a second with reading and writing"
        if progress.timed:
            network = f"{progress.timed / max(progress.seconds, 1e-9):.2f} through the network"
            rate += f", {network} after the first batch of each size"
        console.print(f"{progress.images} {noun} in {out}: {rate}")
    if not progress.failures:
        return None
    return cli.failed(progress.failures, "predicted", any_done=progress.images > 0)


if __name__ == "__main__":
    cli.launch(main, takes_arguments=True)
