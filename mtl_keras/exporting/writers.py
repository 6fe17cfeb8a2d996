"""One writer a format. Each imports what it needs when it is called."""

import contextlib
import importlib
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mtl_keras.errors import UserError, first_line
from mtl_keras.exporting.graph import ExportOptions, serving_function
from mtl_keras.model import MultiTaskModel
from mtl_keras.upsampling import UpsamplingConv2D

# What a format's export is called in its folder.
FILES = {
    "saved_model": "saved_model",
    "onnx": "model.onnx",
    "litert": "model.tflite",
    "openvino": "model.xml",
    "keras": "model.keras",
}
FORMATS = tuple(FILES)
# What a format can be other than float32.
_PRECISIONS = {"onnx": ("float16", "int8"), "litert": ("float16", "int8"), "openvino": ("float16",)}
ONNX_OPSET = 18


def write(
    model: MultiTaskModel, kind: str, path: Path, options: ExportOptions, samples: Sequence[np.ndarray] = ()
) -> None:
    """Writes an export.

    Args:
        model: the model.
        kind: the format, one of `FORMATS`.
        path: the file, or for a SavedModel the folder, to write; it must not exist.
        options: what the graph is like.
        samples: images (height, width, 3) uint8 whose activations int8 is scaled by; of a fixed size, all of that.

    Raises:
        UserError: for what the format cannot do, a package that is missing, or another backend than TensorFlow, which
            makes all graphs: a model that was trained elsewhere is exported by being loaded there.
    """
    if kind not in FORMATS:
        raise UserError(f"format: '{kind}' is unknown; use one of {', '.join(FORMATS)}")
    if options.precision != "float32" and options.precision not in _PRECISIONS.get(kind, ()):
        raise UserError(f"precision: {kind} has no {options.precision}; leave --precision away, or export to litert")
    if kind == "keras":
        if options.argmax or options.size:
            raise UserError("format: a .keras file has logits and free sizes; leave --argmax and --size out for it")
        model.save(path)
        return
    if options.precision == "int8" and not samples:
        raise UserError(f"precision: int8 needs sample images to scale {kind} by; give the run of a dataset")
    if options.size is None and kind == "onnx" and options.precision == "float16":
        # The converter to half precision takes the arithmetic of free sizes for arithmetic of pixels.
        raise UserError("size: an ONNX model of half precision has a fixed size; give it, such as --size=512x1024")
    if keras.backend.backend() != "tensorflow":
        raise UserError(f"{kind}: its graph is made by TensorFlow; set KERAS_BACKEND=tensorflow and load the model")
    try:
        _WRITERS[kind](model, path, options, samples)
    except UserError:
        raise
    except Exception as error:
        if "No space left" in str(error):
            raise UserError(f"{kind}: no space left for {path}; free some, or give another --out") from error
        # Converters raise whatever their parts raise, some of it a whole graph long.
        raise UserError(f"{kind}: cannot be converted ({first_line(error)[:200]}); choose another format") from error


def _saved_model(model: MultiTaskModel, path: Path, options: ExportOptions, samples: Sequence) -> None:
    del samples
    tf = package("tensorflow")
    module, serve = _module(model, options)
    signatures = {"serving_default": serve.get_concrete_function()}
    if options.encoded:
        module.serve_encoded = _encoded(tf, serve, options)
        signatures["serving_bytes"] = module.serve_encoded.get_concrete_function()
    with tempfile.TemporaryDirectory() as scratch:
        facts = Path(scratch) / "spec.json"
        facts.write_text(_facts(model), encoding="utf-8")
        module.facts = tf.saved_model.Asset(str(facts))
        tf.saved_model.save(module, str(path), signatures=signatures)


def _facts(model: MultiTaskModel) -> str:
    """What an export's ids and metres mean: the model's `DataSpec` as JSON."""
    return json.dumps(model.spec.to_dict())


def _module(model: MultiTaskModel, options: ExportOptions) -> tuple[Any, Any]:
    """A plain `tf.Module` that owns the weights, and its function of `image`.

    Keras' ExportArchive tracks each variable twice, and the file holds it twice.
    """
    tf = package("tensorflow")
    signature = tf.TensorSpec((None, *(options.size or (None, None)), 3), "uint8", name="image")
    serve = tf.function(serving_function(model, argmax=options.argmax), input_signature=[signature])
    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    module.serve = serve
    return module, serve


def _encoded(tf: Any, serve: Any, options: ExportOptions) -> Any:
    """A function of `image_bytes`, (batch,) files of one size, that decodes them first."""

    def decode(data):
        # As Pillow has JPEG's rounding; TensorFlow's own is faster, and some grey levels off.
        image = tf.cond(
            tf.io.is_jpeg(data),
            lambda: tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE"),
            lambda: tf.io.decode_png(data, channels=3),
        )
        return tf.ensure_shape(image, (*(options.size or (None, None)), 3))

    def serve_encoded(image_bytes):
        image = tf.map_fn(decode, image_bytes, fn_output_signature=tf.uint8)
        return serve(tf.ensure_shape(image, (None, *(options.size or (None, None)), 3)))

    return tf.function(serve_encoded, input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")])


def _onnx(model: MultiTaskModel, path: Path, options: ExportOptions, samples: Sequence) -> None:
    # Else it keeps a copy of the whole graph for each of its passes, which takes as long as the passes.
    os.environ.setdefault("TF2ONNX_CATCH_ERRORS", "FALSE")
    onnx, converter = package("onnx"), package("tf2onnx")
    _, serve = _module(model, options)
    proto, _ = converter.convert.from_function(serve, serve.input_signature, opset=ONNX_OPSET)
    _write_pads(onnx, proto)
    _name_dimensions(proto, options)
    onnx.checker.check_model(proto)
    if options.precision == "float16":
        proto = package("onnxruntime.transformers.float16").convert_float_to_float16(proto, keep_io_types=True)
    onnx.helper.set_model_props(proto, {"spec": _facts(model)})
    onnx.save(proto, str(path))
    if options.precision == "int8":
        _quantize_onnx(path, samples)


def _write_pads(onnx: Any, proto: Any) -> None:
    """Says in pixels how dilated convolutions pad: ONNX Runtime works it out for the others alone."""
    for node in proto.graph.node:
        said = {attribute.name: attribute for attribute in node.attribute}
        same = "auto_pad" in said and said["auto_pad"].s.startswith(b"SAME")
        if node.op_type == "Conv" and same and max(said["dilations"].ints) > 1:
            each_side = zip(said["dilations"].ints, said["kernel_shape"].ints, strict=True)
            pads = [rate * (side // 2) for rate, side in each_side]
            node.attribute.remove(said["auto_pad"])
            node.attribute.append(onnx.helper.make_attribute("pads", 2 * pads))


def _name_dimensions(proto: Any, options: ExportOptions) -> None:
    """Says what the free dimensions are; of the outputs, too, which are as large as the image."""
    for tensor in (*proto.graph.input, *proto.graph.output):
        for dimension, name in zip(tensor.type.tensor_type.shape.dim, ("batch", "height", "width"), strict=False):
            if name == "batch" or options.size is None:
                dimension.dim_param = name
            else:
                dimension.dim_value = options.size[("height", "width").index(name)]


def _quantize_onnx(path: Path, samples: Sequence) -> None:
    quantization = package("onnxruntime.quantization")
    from onnxruntime.quantization import CalibrationDataReader

    class Samples(CalibrationDataReader):
        def __init__(self):
            self.images = iter(samples)

        def get_next(self):
            image = next(self.images, None)
            return None if image is None else {"image": image[None]}

    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".quantize-") as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        quantization.shape_inference.quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(path),
            Samples(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            op_types_to_quantize=["Conv"],
        )


def _litert(model: MultiTaskModel, path: Path, options: ExportOptions, samples: Sequence) -> None:
    tf = package("tensorflow")
    module, serve = _module(model, options)
    with tempfile.TemporaryDirectory() as scratch, _plain(model, options.precision == "int8"):
        # By way of a SavedModel, for that keeps the outputs' names.
        tf.saved_model.save(module, scratch, signatures={"serving_default": serve.get_concrete_function()})
        converter = tf.lite.TFLiteConverter.from_saved_model(scratch)
        if options.precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if options.precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if options.precision == "int8":
            converter.representative_dataset = lambda: ({"image": image[None]} for image in samples)
        content = converter.convert()
    path.write_bytes(content)
    # TensorFlow Lite's documented place for such files: a zip archive behind the graph, which readers of it pass over.
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo("spec.json"), _facts(model))


@contextlib.contextmanager
def _plain(model: MultiTaskModel, wanted: bool) -> Iterator[None]:
    """While it lasts, upsampling convolutions are traced as they are defined, if that is wanted."""
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, UpsamplingConv2D)]
    for layer in layers:
        layer.plain = wanted
    try:
        yield
    finally:
        for layer in layers:
            layer.plain = False


def _openvino(model: MultiTaskModel, path: Path, options: ExportOptions, samples: Sequence) -> None:
    openvino, tf = package("openvino"), package("tensorflow")
    module, serve = _module(model, options)
    with tempfile.TemporaryDirectory() as scratch:
        tf.saved_model.save(module, scratch, signatures={"serving_default": serve.get_concrete_function()})
        converted = openvino.convert_model(scratch)
        converted.set_rt_info(_facts(model), ["spec"])
        openvino.save_model(converted, str(path), compress_to_fp16=options.precision == "float16")


_WRITERS: dict[str, Callable] = {
    "saved_model": _saved_model,
    "onnx": _onnx,
    "litert": _litert,
    "openvino": _openvino,
}


def package(name: str) -> Any:
    """A module that a format needs; raises `UserError` that says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        root = name.partition(".")[0]
        raise UserError(f"{root}: not installed ({error}); run: pip install -r requirements-extras.txt") from None
