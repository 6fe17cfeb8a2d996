"""Where an encoder's weights come from: the Hugging Face hub, a file, or a run of this project."""

import contextlib
import hashlib
import importlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

from mtl_keras.encoders import keras_hub_layout
from mtl_keras.encoders.pretrained import PIXEL_MEAN, PIXEL_STD, EncoderWeights, select_encoder
from mtl_keras.encoders.resnet import VARIANTS
from mtl_keras.encoders.weight_files import read_file, read_safetensors
from mtl_keras.errors import UserError, first_line, first_sentence
from mtl_keras.files import read_values

logger = logging.getLogger(__name__)


class Pin(NamedTuple):
    """A commit of a repository on the hub, and the SHA-256 of its `model.safetensors`."""

    revision: str
    sha256: str | None = None


# Torchvision's first ImageNet weights (IMAGENET1K_V1), as timm published them. The commits and checksums of 18, 34
# and 50 are as several public projects give them; those of 101 could not be verified offline, so its pin is a name.
PINS = {
    "timm/resnet18.tv_in1k": Pin(
        "bbd144b3e5565108aad885f145491d11bc6ce807", "694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81"
    ),
    "timm/resnet34.tv_in1k": Pin(
        "1b7b21cca82ff974d341713f777bf740c2db38c4", "0bb82595a564991a9d424708b33f5d843f5aaed7f6c0886ff10849ff97022235"
    ),
    "timm/resnet50.tv_in1k": Pin(
        "78f3ecfdb38e06d9b8397f662e7ab8fee96026fa", "5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888"
    ),
    "timm/resnet101.tv_in1k": Pin("main"),
}

# What a folder is searched for: a download of the hub, or a run.
_IN_FOLDER = ("model.safetensors", "checkpoints/best.safetensors", "model.keras")
_SOURCES = "imagenet, timm/NAME, keras_hub/PRESET, a run's folder, or a .safetensors, .pth, .keras or .weights.h5 file"


def read_weights(source: str | Path, variant: str) -> EncoderWeights:
    """Reads an encoder's weights from wherever a user names.

    ```python
    weights = read_weights("imagenet", "resnet34")
    load_weights(model.get_layer("encoder"), weights)
    ```

    Args:
        source: "imagenet" (torchvision's first weights, from the Hugging Face hub); "timm/NAME" or
            "timm/NAME@REVISION" for another plain ResNet of timm, such as "timm/resnet34.a1_in1k"; "keras_hub/PRESET"
            where keras-hub is installed; the path of a `.safetensors`, `.pth`, `.keras` or `.weights.h5` file, or of
            the folder of a run. Of a whole model the encoder is taken. The hub's cache, offline mode (HF_HUB_OFFLINE)
            and mirror (HF_ENDPOINT) work as huggingface_hub has them.
        variant: the encoder that they are for, a key of `VARIANTS`.

    Raises:
        UserError: for a source that is unknown, cannot be reached or is not a plain ResNet's weights.
    """
    source = str(source)
    if source == "imagenet":
        return _from_timm(f"{variant}.tv_in1k", variant)
    family, _, name = source.partition("/")
    if family in _FAMILIES and name and not Path(source).exists():
        return _FAMILIES[family](name, variant)
    path = Path(source)
    if path.is_dir():
        path = _in_folder(path)
    if not path.is_file():
        raise UserError(f"{source}: no such weights; give {_SOURCES}")
    return select_encoder(read_file(path, variant), str(path))


def _from_timm(name: str, variant: str) -> EncoderWeights:
    name, _, revision = name.partition("@")
    architecture = name.partition(".")[0]
    if architecture not in VARIANTS:
        raise UserError(
            f"timm/{name}: '{architecture}' is not of torchvision's plain layout; give a name that "
            f"begins with {', '.join(VARIANTS)} and a dot"
        )
    if architecture != variant:
        raise UserError(f"timm/{name}: holds a {architecture}, not a {variant}; give weights of a {variant}")
    repository = f"timm/{name}"
    pin = Pin(revision) if revision else PINS.get(repository, Pin("main"))
    path = _download(repository, "model.safetensors", pin.revision)
    if pin.sha256 and _sha256(path) != pin.sha256:
        raise UserError(
            f"{path}: is not the file that {repository} published (its checksum differs); delete it, or "
            f"name the one that you mean as {repository}@REVISION"
        )
    if repository not in PINS:
        _check_config(repository, pin.revision)
    return select_encoder(read_safetensors(path), f"{repository}@{pin.revision[:12]}")


def _download(repository: str, filename: str, revision: str) -> Path:
    """A file of the hub, from its cache where it is there; one line for all that can go wrong."""
    try:
        with _hub_warnings_off():
            return Path(hf_hub_download(repository, filename, revision=revision))
    except HFValidationError as error:
        raise UserError(f"{repository}: is no name on the hub ({first_line(error)}); correct it") from None
    except (EntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = first_sentence(error.__cause__ or error)
        raise UserError(
            f"{repository}: {filename} at revision {revision[:12]} is not in the cache "
            f"({constants.HF_HUB_CACHE}) and cannot be fetched from "
            f"{constants.ENDPOINT} ({reason}); give a file that you have instead: "
            ".safetensors, .pth or .keras"
        ) from None


@contextlib.contextmanager
def _hub_warnings_off() -> Iterator[None]:
    """Silences the hub's line for each retry, where what it comes to is told once, at the end."""
    hub_logger = logging.getLogger("huggingface_hub")
    level = hub_logger.level
    hub_logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        hub_logger.setLevel(level)


def _check_config(repository: str, revision: str) -> None:
    """Refuses weights whose images are normalised otherwise, where the repository says how they are."""
    try:
        config = read_values(_download(repository, "config.json", revision))
    except (UserError, ValueError):
        logger.info("%s: has no config.json at hand; its images are taken to be normalised as ImageNet's", repository)
        return
    facts = config.get("pretrained_cfg") or config if isinstance(config, dict) else {}
    try:
        mean, std = (np.multiply(facts[name], 255.0) for name in ("mean", "std"))
    except (KeyError, TypeError, ValueError):
        logger.info("%s: its config.json does not say how images are normalised; as ImageNet's, then", repository)
        return
    _check_normalization(repository, mean, std)


def _check_normalization(source: str, mean, std) -> None:
    """Refuses weights of images that were not normalised as ImageNet's; all numbers are on the 0–255 scale."""
    if not np.allclose([mean, std], [PIXEL_MEAN, PIXEL_STD], atol=0.5):
        numbers = ", ".join(f"{value:.1f}" for value in (*mean, *std))
        raise UserError(
            f"{source}: its images have mean and deviation {numbers}, not ImageNet's; give weights of images that are "
            "normalised as ImageNet's"
        )


def _from_keras_hub(preset: str, variant: str) -> EncoderWeights:
    try:
        keras_hub = importlib.import_module("keras_hub")
    except ImportError:
        raise UserError(f"keras_hub/{preset}: needs keras-hub; install it: pip install keras-hub") from None
    try:
        backbone = keras_hub.models.Backbone.from_preset(preset)
        converter = keras_hub.layers.ImageConverter.from_preset(preset)
    except Exception as error:
        # Keras-hub passes on whatever its downloaders raise.
        raise UserError(f"keras_hub/{preset}: cannot be loaded ({first_sentence(error)}); check the name") from error
    source = f"keras_hub/{preset}"
    # The converter gives image·scale + offset.
    scale = 1.0 if converter.scale is None else converter.scale
    offset = 0.0 if converter.offset is None else converter.offset
    std = 1 / np.broadcast_to(scale, 3)
    _check_normalization(source, -np.broadcast_to(offset, 3) * std, std)
    return select_encoder(keras_hub_layout.tensors(backbone, source), source)


def _refuse_keras_cv(preset: str, variant: str) -> EncoderWeights:
    raise UserError(
        f"keras_cv/{preset}: keras-cv's ResNets stride in the first 1x1 convolution of a block, torchvision's in the "
        "3x3, so its weights give other features here; use imagenet instead"
    )


_FAMILIES: dict[str, Callable[[str, str], EncoderWeights]] = {
    "timm": _from_timm,
    "keras_hub": _from_keras_hub,
    "keras_cv": _refuse_keras_cv,
}


def _in_folder(folder: Path) -> Path:
    for name in _IN_FOLDER:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder}: holds none of {', '.join(_IN_FOLDER)}; give a run that has finished an epoch")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
