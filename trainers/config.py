"""One frozen dataclass describes a run: flags are made from it, and the run's folder keeps it as JSON."""

import dataclasses
import json
import math
import types
import typing
from pathlib import Path
from typing import Any

from mtl_keras.data.cache import CACHES
from mtl_keras.errors import UserError, on_one_line
from mtl_keras.files import as_tuples, read_values
from zoo.recipes import RECIPES, default_recipe

OPTIMIZERS = ("adam", "sgd", "adamw")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
ON_NAN = ("stop", "rollback", "skip")
# The fields that say where a run finds its data and keeps it meanwhile; a resumed run may have others.
PLACES = ("data_dir", "prepared_dir", "cache", "cache_dir", "workers")
# The fields that say which data is read.
SOURCE = ("dataset", "data_dir", "prepared_dir", "skip_bad_files", "image_size", "depth_range")


def _option(default: Any, help: str, **checks: Any) -> Any:
    """A field with its flag's help; `least` and `choices` are checked."""
    return dataclasses.field(default=default, metadata={"help": help, **checks})


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """What a run is: the same values start the same run again."""

    recipe: str | None = _option(None, "settings to start from; by default report, or demo for streets itself")
    name: str | None = _option(None, "name of the run; its topology by default")

    arch: str = _option("branched", "topology: joint, branched or distillation")
    encoder: str = _option("resnet34", "resnet18, resnet34, resnet50 or resnet101")
    dilation: tuple[bool, ...] = _option((False, False, True), "replace stride with dilation in layer2, layer3, layer4")
    aspp: bool = _option(True, "atrous spatial pyramid pooling")
    skip: bool = _option(True, "skip connection at 1/4 scale")
    aspp_rates: tuple[int, ...] = _option((3, 6, 9), "dilation rates of the ASPP", least=1)
    pretrained: str | None = _option(None, "encoder weights: imagenet, timm/NAME, keras_hub/NAME, a file, a run, none")
    init_from: str | None = _option(None, "a run or model file to take all weights of, or none")

    dataset: str = _option("streets", "streets (also /medium, /full, /pretraining), miniscapes, cityscapes, folder")
    data_dir: str | None = _option(None, "folder of the raw dataset; streets has none")
    prepared_dir: str | None = _option(None, "folder of prepared datasets; TFDS's own by default")
    skip_bad_files: bool = _option(False, "go on without the files that cannot be used")
    image_size: tuple[int, ...] = _option((), "height and width that cityscapes is stored at; 512,1024 if not given")
    depth_range: tuple[float, ...] = _option((), "least and greatest valid metres of cityscapes; 4,300 if not given")
    crop: tuple[int, ...] = _option((256, 256), "height and width of a training crop", least=1)
    horizontal_flip: bool = _option(False, "mirror a crop with probability 1/2")
    window_scaling: float = _option(0.0, "random scale: a window is up to 1 + this times larger or smaller", least=0)
    tilt: float = _option(0.0, "random rotation: degrees that a window is turned by at most", least=0)
    corner_wiggle: float = _option(0.0, "random perspective: share of its sides that corners move by at most", least=0)
    photometric_jitter: float = _option(0.0, "color jitter: share of brightness, contrast and saturation", least=0)
    scale_depth: bool = _option(False, "with window_scaling: what looks twice as large is half as far")
    cache: str = _option(
        "ram", "where decoded samples are kept; ram means disk with workers or several processes", choices=CACHES
    )
    cache_dir: str | None = _option(None, "folder of the disk cache; beside the prepared data by default")
    workers: int = _option(0, "worker processes of the loader; 0 reads in threads", least=0)

    optimizer: str = _option("adam", "optimizer, with PyTorch's update rule", choices=OPTIMIZERS)
    learning_rate: float = _option(1e-4, "learning rate of the first epoch", above=0)
    weight_decay: float = _option(1e-4, "added to the gradients of adam and sgd; decoupled in adamw", least=0)
    momentum: float = _option(0.9, "momentum of sgd", least=0)
    encoder_lr_scale: float = _option(1.0, "factor of the learning rate for the encoder", above=0)
    freeze_encoder_epochs: int = _option(0, "first epochs that freeze the encoder, but for its statistics", least=0)
    freeze_batch_norm: bool = _option(False, "keep the encoder's batch norms, statistics included, as they are")
    batch_size: int = _option(4, "images a step", least=1)
    val_batch_size: int = _option(8, "images a validation step", least=1)
    accumulate: int = _option(1, "steps whose gradients are averaged before the weights move once", least=1)
    epochs: int = _option(16, "passes over the training split", least=1)
    loss_weight_semseg: float = _option(0.5, "weight of semantic segmentation", least=0)
    loss_weight_depth: float = _option(0.5, "weight of depth", least=0)
    clip_norm: float | None = _option(None, "greatest norm of all gradients together; longer ones are scaled", above=0)
    ema: float | None = _option(None, "judge and keep averaged weights, of this decay (0.999, say)", above=0, below=1)
    on_nan: str = _option("stop", "what to do where a loss or gradient is not finite", choices=ON_NAN)
    precision: str = _option("float32", "compute precision; heads and losses stay float32", choices=PRECISIONS)
    jit_compile: bool = _option(False, "compile steps under torch too, and with XLA under tensorflow; jax always does")
    seed: int = _option(0, "random seed of weights, order and crops", least=0)

    runs_dir: str = _option("runs", "where run folders are made")
    save_every: float = _option(10.0, "minutes between resumable states; each epoch's last step is saved too", above=0)
    save_steps: int | None = _option(None, "steps between resumable states, beside the minutes", least=1)
    profile: int = _option(0, "steps of the first epoch to trace into the run's tensorboard folder", least=0)
    export: bool = _option(False, "make a SavedModel of the best checkpoint")
    baseline: bool = _option(False, "evaluate the untrained network too")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))
        if len(self.crop) != 2:
            raise UserError(f"crop: {self.crop} is not a height and a width; give two numbers, such as 256,256")
        if self.on_nan == "skip" and self.precision == "mixed_float16":
            raise UserError(
                "on_nan: skip does not go with mixed_float16, whose loss scaling skips such steps by itself; give stop "
                "or rollback, or mixed_bfloat16"
            )
        if self.loss_weight_semseg == self.loss_weight_depth == 0:
            raise UserError("loss_weight_semseg: with both weights 0 there is nothing to learn; give one of them more")
        if self.init_from and self.pretrained:
            raise UserError("pretrained: init_from gives the encoder's weights too; leave one of them out")

    @property
    def source(self) -> dict[str, Any]:
        """What `mtl_keras.data.load` takes beside the dataset's name and the split."""
        options = {name: getattr(self, name) for name in ("image_size", "depth_range") if getattr(self, name)}
        shared = {name: getattr(self, name) for name in ("data_dir", "prepared_dir", "skip_bad_files")}
        return {**shared, **options}

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


def from_settings(settings: dict[str, Any]) -> RunConfig:
    """A configuration of settings that override their recipe's, which override the defaults.

    Raises:
        UserError: for an unknown recipe, or a value that does not fit.
    """
    recipe = settings.get("recipe") or default_recipe(settings.get("dataset", RunConfig.dataset))
    if not isinstance(recipe, str) or recipe not in RECIPES:
        raise UserError(f"recipe: '{on_one_line(recipe)}' is unknown; use one of {', '.join(RECIPES)}")
    return RunConfig(**{**RECIPES[recipe].settings, **settings, "recipe": recipe})


def flag_text(value: Any) -> str:
    """A setting's value as a flag takes it."""
    if isinstance(value, tuple):
        return ",".join(flag_text(item) for item in value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return number(value)
    return "none" if value is None else str(value)


def number(value: float) -> str:
    """A number without an exponent or trailing zeros: 0.0001, not 1e-04."""
    return f"{value:.10f}".rstrip("0").rstrip(".")


def read_config(path: Path) -> RunConfig:
    """Reads a run's `config.json`; raises `UserError` for anything else."""
    try:
        values = read_values(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a configuration ({error}); give a run's config.json") from None
    return checked_config(values, path)


def checked_config(values: Any, path: object) -> RunConfig:
    """A configuration of what a `config.json` holds; raises `UserError`, with the file's name, for anything else."""
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no configuration; give a run's config.json")
    fields = {field.name: field for field in dataclasses.fields(RunConfig)}
    if unknown := sorted(set(values) - set(fields)):
        raise UserError(f"{path}: '{on_one_line(unknown[0])}' is no setting of a run; remove it")
    try:
        return RunConfig(**as_tuples(values))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _check(field: dataclasses.Field, value: Any) -> None:
    if not _fits(value, field.type):
        raise UserError(f"{field.name}: {value!r} is not of type {_type_name(field.type)}; {field.metadata['help']}")
    choices, least, above, below = (field.metadata.get(key) for key in ("choices", "least", "above", "below"))
    if choices and value not in choices:
        raise UserError(f"{field.name}: '{on_one_line(value)}' is unknown; use one of {', '.join(choices)}")
    if value is None:
        return
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, float) and not math.isfinite(number):
            raise UserError(f"{field.name}: {number} is no number to calculate with; give a finite one")
        if least is not None and not number >= least:
            raise UserError(f"{field.name}: {number} is too small; give {least} or more")
        if above is not None and not number > above:
            raise UserError(f"{field.name}: {number} is too small; give more than {above}")
        if below is not None and not number < below:
            raise UserError(f"{field.name}: {number} is too large; give less than {below}")


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(kind, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(item, typing.get_args(kind)[0]) for item in value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return value is None if kind is types.NoneType else isinstance(value, kind)


def _type_name(kind: Any) -> str:
    return getattr(kind, "__name__", str(kind))
