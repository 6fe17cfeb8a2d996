"""`cityscapes`: real street scenes with fine labels and stereo depth (Cordts et al., CVPR 2016).

It reads the official archives, or the trees that they unpack to:
`{leftImg8bit,gtFine,disparity,camera}/{train,val,test}/<city>/<city>_<sequence>_<frame>_<kind>`.
"""

import dataclasses
import functools
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from mtl_keras.data import images, raw_files
from mtl_keras.data.archives import SourceFile, find_files
from mtl_keras.data.builder import ExampleBuilder
from mtl_keras.data.depth_encoding import RANGE_RULE, SCALE_RULE, is_range, is_scale
from mtl_keras.data.examples import Example, depth_sums, missing_depth, missing_semseg
from mtl_keras.data.images import BadFile
from mtl_keras.data.spec import CITYSCAPES_COLORS, IGNORE_LABEL, SPLITS, DataSpec
from mtl_keras.errors import UserError

# Label ids of cityscapesScripts (helpers/labels.py), in the order of their train ids; all others are ignored.
_EVALUATED_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_NUM_IDS = 34

_FOLDERS = ("leftImg8bit", "gtFine", "disparity", "camera")
_IMAGE = "_leftImg8bit.png"
_LABEL_IDS = "_gtFine_labelIds.png"
_TRAIN_IDS = "_gtFine_labelTrainIds.png"
_DISPARITY = "_disparity.png"
_CAMERA = "_camera.json"

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Frame:
    """The files of one frame; None where there is none, and all images of its id where there are several."""

    id: str
    image: SourceFile
    label_ids: SourceFile | None
    train_ids: SourceFile | None
    disparity: SourceFile | None
    camera: SourceFile | None
    same_id: tuple[SourceFile, ...] = ()

    @property
    def files(self) -> list[SourceFile]:
        """All of them."""
        every = (self.image, self.label_ids, self.train_ids, self.disparity, self.camera, *self.same_id)
        return [file for file in every if file]


@dataclasses.dataclass(eq=False)
class CityscapesConfig(tfds.core.BuilderConfig):
    """Where the source lies, and what is made of it.

    Args:
        size: (height, width) to store; a smaller image is never enlarged, None keeps every image's own size.
        depth_range: least and greatest valid metres.
        frames: the frames of each split.
    """

    size: tuple[int, int] | None = (512, 1024)
    depth_range: tuple[float, float] = (4.0, 300.0)
    frames: dict[str, list[Frame]] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_source(
        cls,
        data_dir: Path,
        image_size: tuple[int, int] | None = (512, 1024),
        depth_range: tuple[float, float] = (4.0, 300.0),
    ) -> "CityscapesConfig":
        """Finds the frames of a folder; the configuration is named by the fingerprint of its files.

        Raises:
            UserError: no image in any split, disparity without any camera, or an option that makes no sense.
        """
        size = image_size
        if size is not None and not (images.is_size(size) and max(size) <= images.MAX_SIDE):
            raise UserError(f"image_size {size}: expected height and width in whole pixels, 1 to {images.MAX_SIDE}")
        if not is_range(depth_range):
            raise UserError(f"depth_range {depth_range!s:.40}: expected {RANGE_RULE}")
        files = find_files(data_dir, _FOLDERS)
        frames = {split: found for split in SPLITS if (found := _find_frames(files, split))}
        if not frames:
            raise UserError(
                f"data_dir {data_dir} holds no Cityscapes: expected {_FOLDERS[0]}/train/<city>/*{_IMAGE} "
                f"or {_FOLDERS[0]}_trainvaltest.zip, from https://www.cityscapes-dataset.com/downloads/"
            )
        _check_found(data_dir, [frame for split in frames.values() for frame in split])
        sizes = "native" if size is None else f"{size[0]}x{size[1]}"
        least, greatest = map(float, depth_range)
        used = {file.path for file in raw_files.files_of(frames)}
        fingerprint = raw_files.fingerprint(data_dir, used, (least, greatest))
        return cls(name=f"{sizes}-{fingerprint}", size=size, depth_range=(least, greatest), frames=frames)


def _check_found(data_dir: Path, frames: Sequence[Frame]) -> None:
    """Refuses disparity without any camera, and tells of labels and disparity that no frame at all has."""
    if any(frame.disparity for frame in frames) and not any(frame.camera for frame in frames):
        raise UserError(
            f"data_dir {data_dir} holds disparity but no camera, without which it is no depth: expected "
            f"camera/train/<city>/*{_CAMERA} or camera_trainvaltest.zip, or no disparity"
        )
    for folder, what, found in (
        ("gtFine", _LABEL_IDS, any(frame.label_ids or frame.train_ids for frame in frames)),
        ("disparity", _DISPARITY, any(frame.disparity for frame in frames)),
    ):
        if not found:
            place = f"{folder}/train/<city>/*{what} or {folder}_trainvaltest.zip"
            logger.warning("%s has no %s", data_dir, place)


class Cityscapes(ExampleBuilder):
    """Cityscapes with both labels: train ids, and the raw disparity codes with each frame's own baseline · fx.

    Kept as codes, depth is as exact as the camera file. TFDS has a builder of the same name, but no configuration of
    it has both labels.
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Register at https://www.cityscapes-dataset.com, and put leftImg8bit_trainvaltest.zip, "
        "gtFine_trainvaltest.zip, disparity_trainvaltest.zip and camera_trainvaltest.zip, or the folders that they "
        "unpack to, into one folder; give it as data_dir."
    )

    def data_spec(self) -> DataSpec:
        return DataSpec("cityscapes", depth_range=tuple(self.builder_config.depth_range))

    def depth_encoding(self) -> str:
        return "disparity"

    def jobs(self) -> dict[str, Sequence[Frame]]:
        return self.builder_config.frames

    def reader(self) -> Callable[[Any], Example | list[BadFile]]:
        config = self.builder_config
        return functools.partial(read_frame, size=config.size, depth_range=config.depth_range)


def read_frame(frame: Frame, size: tuple[int, int] | None, depth_range: tuple[float, float]) -> Example | list[BadFile]:
    """Makes an example of a frame: RGB averaged over areas, labels and disparity by nearest neighbour.

    Args:
        frame: the files.
        size: (height, width) to store, or None.
        depth_range: of the depth statistics.

    Returns:
        The example, or all bad files of the frame.
    """
    bad = raw_files.shared_id(frame.id, frame.same_id)
    rgb = raw_files.attempt(bad, lambda file: images.read_rgb(file.read(), file), frame.image)
    label_file = frame.label_ids or frame.train_ids
    labels = raw_files.attempt(bad, _read_labels, label_file, label_file is frame.label_ids) if label_file else None
    codes = raw_files.attempt(bad, _read_disparity, frame.disparity) if frame.disparity else None
    scale = raw_files.attempt(bad, _read_camera, frame) if frame.disparity else 1.0
    for file, array in ((label_file, labels), (frame.disparity, codes)):
        if rgb is not None and array is not None and array.shape != rgb.shape[:2]:
            bad.append(raw_files.size_mismatch(file, array, frame.image, rgb))
    if bad or rgb is None or scale is None:
        return bad
    if size is not None and (size[0] < rgb.shape[0] or size[1] < rgb.shape[1]):
        size = min(size[0], rgb.shape[0]), min(size[1], rgb.shape[1])
        rgb = _area_average(rgb, size)
        labels, codes = (None if array is None else _nearest(array, size) for array in (labels, codes))
    height, width = rgb.shape[:2]
    return Example(
        id=frame.id,
        image=images.encode_png(rgb),
        semseg=missing_semseg(height, width) if labels is None else images.encode_png(labels),
        depth=missing_depth(height, width, np.uint16) if codes is None else images.encode_png(codes),
        depth_scale=scale,
        depth_sums=(0, 0.0, 0.0) if codes is None else depth_sums(codes, "disparity", scale, depth_range),
    )


@functools.cache
def train_id_table() -> np.ndarray:
    """Train id of every 8-bit label id: (256,) uint8."""
    table = np.full(256, IGNORE_LABEL, np.uint8)
    table[list(_EVALUATED_IDS)] = np.arange(len(_EVALUATED_IDS))
    return table


def _find_frames(files: dict[str, SourceFile], split: str) -> list[Frame]:
    prefix = f"leftImg8bit/{split}/"
    names = sorted(
        name.removeprefix(prefix).removesuffix(_IMAGE)
        for name in files
        if name.startswith(prefix) and name.endswith(_IMAGE)
    )
    by_id: dict[str, list[str]] = {}
    for name in names:
        by_id.setdefault(name.rpartition("/")[2], []).append(name)
    return [
        Frame(
            id=frame_id,
            image=files[f"{prefix}{name}{_IMAGE}"],
            label_ids=files.get(f"gtFine/{split}/{name}{_LABEL_IDS}"),
            train_ids=files.get(f"gtFine/{split}/{name}{_TRAIN_IDS}"),
            disparity=files.get(f"disparity/{split}/{name}{_DISPARITY}"),
            camera=files.get(f"camera/{split}/{name}{_CAMERA}"),
            same_id=tuple(files[f"{prefix}{twin}{_IMAGE}"] for twin in (name, *twins) if twins),
        )
        for frame_id, (name, *twins) in by_id.items()
    ]


def _read_labels(file: SourceFile, are_label_ids: bool) -> np.ndarray:
    labels = images.read_labels(file.read(), file)
    if not are_label_ids:
        raw_files.check_labels(labels, len(CITYSCAPES_COLORS), file)
        return labels
    raw_files.check_labels(labels, _NUM_IDS, file)
    return train_id_table()[labels]


def _read_disparity(file: SourceFile) -> np.ndarray:
    image = images.open_png(file.read(), file)
    images.require_mode(image, raw_files.GREY_16, "16-bit grey", file)
    return images.pixels(image)


def _read_camera(frame: Frame) -> float:
    """Baseline · fx in metre · pixels of the full image, to which the disparity belongs whatever the stored size."""
    if frame.camera is None:
        raise BadFile(frame.disparity, f"no camera file, expected camera/…{_CAMERA} beside it")
    try:
        camera = json.loads(frame.camera.read())
        baseline, fx = camera["extrinsic"]["baseline"], camera["intrinsic"]["fx"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadFile(frame.camera, "no JSON with extrinsic.baseline and intrinsic.fx") from error
    if not (is_scale(baseline) and is_scale(fx) and is_scale(baseline * fx)):
        found = f"extrinsic.baseline is {baseline!r:.40} and intrinsic.fx {fx!r:.40}"
        raise BadFile(frame.camera, f"{found}, expected each and their product to be {SCALE_RULE}")
    return baseline * fx


def _area_average(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if rgb.shape[0] % size[0] == 0 and rgb.shape[1] % size[1] == 0:
        # Rounds once; a resize does so after each axis.
        return np.asarray(Image.fromarray(rgb).reduce((rgb.shape[1] // size[1], rgb.shape[0] // size[0])))
    rows = _averaged_rows(rgb, size[0])
    return np.rint(_averaged_rows(rows.swapaxes(0, 1), size[1]).swapaxes(0, 1)).astype(np.uint8)


def _averaged_rows(array: np.ndarray, count: int) -> np.ndarray:
    """Means over `count` even stretches of the first axis, in float64; a pixel weighs what is covered of it."""
    height = len(array)
    ends = np.arange(count + 1) * height / count
    pixels = np.minimum(ends.astype(np.int64), height - 1)
    sums = np.insert(np.cumsum(array, 0, np.float64), 0, 0, 0)
    covered = (ends - pixels).reshape(-1, *[1] * (array.ndim - 1))
    return np.diff(sums[pixels] + covered * array[pixels], axis=0) * (count / height)


def _nearest(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixel under each new pixel's centre, on an edge the one behind it; Pillow's rounding differs by the mode."""
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(size, array.shape, strict=True))
    return np.ascontiguousarray(array[rows[:, None], columns])
