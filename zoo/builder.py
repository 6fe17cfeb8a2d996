"""`build`: one call for every model that the zoo can name."""

import importlib
import numbers
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence

import keras

import zoo
from mtl_keras.data.spec import IGNORE_LABEL, MINISCAPES, DataSpec, numbered_classes
from mtl_keras.encoders import PIXEL_MEAN, PIXEL_STD, load_weights, output_stride, read_weights, resnet
from mtl_keras.errors import UserError
from mtl_keras.layers import PixelNormalization
from mtl_keras.model import MultiTaskModel
from zoo.heads import Features, Heads
from zoo.preset import PRESETS

# The arguments of `build` that say what a network is; a checkpoint keeps them.
ARCHITECTURE = ("arch", "encoder", "dilation", "aspp", "skip", "aspp_rates")


Topology = Callable[[Features, Heads], Mapping[str, keras.KerasTensor]]


def topologies() -> dict[str, Topology]:
    """The topologies by name: every module of the zoo that has a function of its own name is one."""
    found = {}
    for module in pkgutil.iter_modules(zoo.__path__):
        function = getattr(importlib.import_module(f"zoo.{module.name}"), module.name, None)
        if callable(function):
            found[module.name] = function
    return found


def build(
    arch: str | Topology,
    *,
    encoder: str = "resnet34",
    dilation: Sequence[bool] = (False, False, True),
    aspp: bool = True,
    skip: bool = True,
    aspp_rates: Sequence[int] = (3, 6, 9),
    num_classes: int | None = None,
    spec: DataSpec | None = None,
    weights: str | None = None,
    name: str | None = None,
) -> MultiTaskModel:
    """Builds a model that takes raw RGB images and predicts semantic segmentation and depth.

    ```python
    model = zoo.build("branched")
    model.compile("adam")
    predictions = model.predict(images)  # {"semseg": (batch, height, width, 19), "depth": (batch, height, width, 1)}
    ```

    Args:
        arch: "joint", "branched" or "distillation", or a topology of your own: a function from an encoder's `Features`
            and a model's `Heads` (`zoo.heads`) to a dict of outputs.
        encoder: "resnet18", "resnet34", "resnet50" or "resnet101".
        dilation: for the encoder's layer2, layer3 and layer4, whether dilation replaces the stride. None of them gives
            output stride 32, the last 16, the last two 8; height and width must be multiples of it.
        aspp: whether the deepest features go through atrous spatial pyramid pooling.
        skip: whether the decoder joins features at 1/4 scale.
        aspp_rates: dilation rates of the ASPP's three 3×3 convolutions.
        num_classes: number of classes where no `spec` is given; 19, Cityscapes', by default. With a `spec`, its own.
        spec: classes and depth statistics of the dataset; Miniscapes' by default.
        weights: where the encoder's weights come from, as `mtl_keras.encoders.read_weights` takes it: "imagenet", a
            name on the hub, a file or a run; random if None.
        name: the model's name; its arch by default.

    Raises:
        UserError: for a name that is unknown, a dilation that cannot be built, a number of classes that is not the
            spec's, or weights that are not to be had or do not fit.
    """
    if keras.config.image_data_format() != "channels_last":
        raise UserError(
            "image_data_format: channels_first cannot be built; call "
            'keras.config.set_image_data_format("channels_last") before'
        )
    arch, topology = _topology(arch)
    dilation = checked_dilation(dilation)
    spec = checked_spec(num_classes, spec, MINISCAPES)
    if not isinstance(aspp_rates, Iterable):
        raise UserError(f"aspp_rates: {aspp_rates!r} is one rate; give three, such as (3, 6, 9)")
    heads = Heads(spec, aspp=aspp, skip=skip, aspp_rates=tuple(aspp_rates))
    stride = output_stride(dilation)

    image = keras.Input((None, None, 3), dtype="float32", name="image")
    x = PixelNormalization(PIXEL_MEAN, PIXEL_STD, stride, name="normalization")(image)
    x = resnet(x, variant=encoder, dilation=dilation, name="encoder")
    outputs = topology(Features(x["layer4"], x["layer1"], stride // 4), heads)
    architecture = dict(zip(ARCHITECTURE, (arch, encoder, dilation, aspp, skip, heads.aspp_rates), strict=True))
    model = MultiTaskModel(image, outputs, name=name or arch, spec=spec, architecture=architecture)
    if weights is not None:
        load_weights(model.get_layer("encoder"), read_weights(weights, encoder))
    return model


def _topology(arch: str | Topology) -> tuple[str, Topology]:
    """A topology's name and its function."""
    functions = topologies()
    if callable(arch):
        name = getattr(arch, "__name__", type(arch).__name__).strip("<>")
        # A saved model has the name alone.
        if functions.get(name, arch) is not arch:
            raise UserError(f"arch: the zoo has a topology '{name}'; give your function another name")
        return name, arch
    if arch in PRESETS:
        raise UserError(f"arch: '{arch}' is a preset; give what it is made of: {PRESETS[arch].call}")
    if arch not in functions:
        raise UserError(f"arch: '{arch}' is unknown; use one of {', '.join(functions)}")
    return arch, functions[arch]


def checked_spec(num_classes: int | None, spec: DataSpec | None, default: DataSpec) -> DataSpec:
    """The spec that was asked for, by itself or by its number of classes; raises `UserError` where these do not fit."""
    is_count = isinstance(num_classes, numbers.Integral) and not isinstance(num_classes, bool)
    if num_classes is not None and not (is_count and 1 <= num_classes <= IGNORE_LABEL):
        raise UserError(f"num_classes: {num_classes!r} is no number of classes; give 1 to {IGNORE_LABEL}")
    if not isinstance(spec, DataSpec | None):
        raise UserError(f"spec: {spec!r} is no DataSpec; give one, such as a dataset's, data.load(NAME, SPLIT).spec")
    if spec is not None and num_classes not in (None, spec.num_classes):
        raise UserError(
            f"num_classes: {num_classes} is not the {spec.num_classes} of spec '{spec.name}'; leave one of them out"
        )
    if spec is None and num_classes not in (None, default.num_classes):
        return numbered_classes(int(num_classes), like=default)
    return spec or default


def checked_dilation(dilation: Sequence[bool]) -> tuple[bool, bool, bool]:
    """The flags as a tuple; raises `UserError` unless a dilated stage is followed by dilated ones."""
    flags = tuple(dilation) if isinstance(dilation, Iterable) else (dilation,)
    # Anything else would be true: a rate of 1, where 2 is dilated, or "False".
    if len(flags) != 3 or any(flag not in (False, True) for flag in flags) or sorted(flags) != list(flags):
        raise UserError(
            f"dilation: {','.join(map(str, flags))} cannot be built; give a flag for layer2, layer3 and layer4, "
            "such as (False, False, True), with every stage after a dilated one dilated too"
        )
    return bool(flags[0]), bool(flags[1]), bool(flags[2])
