"""Exports against the model's own predictions under another backend, with nothing but their runtimes."""

import json
import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from mtl_keras import DataSpec, UserError
from mtl_keras.data.images import encode_jpeg
from mtl_keras.exporting import Agreement, ExportOptions, check, write
from mtl_keras.inference import Options, decode_image, predict_batch
from mtl_keras.prediction_files import semseg_png
from mtl_keras.viz import encode_png
from tests import harness
from tests.conftest import AS_A_USER
from tests.data.conftest import write_miniscapes
from tests.runs import decisive_model, write_run

ROOT = Path(__file__).parents[1]
FREE = ("saved_model", "onnx", "openvino", "litert")
FILES = {"saved_model": "saved_model", "onnx": "model.onnx", "openvino": "model.xml", "litert": "model.tflite"}
RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino", "litert": "ai_edge_litert", "saved_model": "tensorflow"}


def export(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "trainers.export", *arguments]
    environment = {**os.environ, **AS_A_USER}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def model():
    return decisive_model("joint")


@pytest.fixture(scope="module")
def exported(model, module_path):
    """A folder with an export in every format whose runtime is installed, and what the commands said."""
    run = write_run(module_path, model, arch="joint")
    kinds = [kind for kind in FREE if _installed(kind)]
    commands = [export(str(run.path), f"--format={','.join(kinds)}")]
    if _installed("litert"):
        fixed = f"--out={run.path / 'fixed'}"
        commands.append(export(str(run.path), "--format=litert", "--size=70x100", "--argmax", fixed))
    said = ""
    for command in commands:
        output, errors = command.communicate(timeout=600)
        assert command.returncode == 0, errors
        said += output
    return run.path, said


def _installed(kind: str) -> bool:
    import importlib.util

    needed = [RUNTIMES[kind]] + (["tf2onnx"] if kind == "onnx" else [])
    return all(importlib.util.find_spec(name) for name in needed)


@pytest.mark.parametrize("kind", FREE)
def test_free_sizes_agree_with_predict(model, exported, kind):
    """Of batches and sizes that the graph was not made with, multiples of the stride and not."""
    if not _installed(kind):
        pytest.skip(f"{RUNTIMES[kind]} is not installed")
    images = [check.sample_images(1, 64, 96), check.sample_images(3, 50, 77, seed=1)]
    agreement = check.compare(model, kind, exported[0] / FILES[kind], images)
    assert agreement.same_ids >= 0.999 and agreement.depth_error <= 1e-3 and agreement.logit_error < 1e-4
    assert f"{kind:<12}{exported[0] / FILES[kind]}" in exported[1]


LOWER = """
import sys
from pathlib import Path
import zoo
from mtl_keras.exporting import ExportOptions, check, write
folder, samples = Path(sys.argv[1]), [image for seed in range(4) for image in check.sample_images(2, 64, 96, seed)]
for name in sys.argv[2:]:
    kind, precision = name.split("-")
    write(zoo.load(folder / "model.keras"), kind, folder / name, ExportOptions(precision=precision), samples)
"""
# The least correlation with the model's own logits and metres. float16 has 11 significant bits, int8 has 256 values for
# all of a layer's pixels; classes are no measure, for where no training set them apart many are nearly equal.
LOWER_PRECISIONS = {"litert-float16": 0.999, "litert-int8": 0.95, "onnx-int8": 0.95}


@pytest.fixture(scope="module")
def lowered(model, module_path):
    """A folder with the exports of lower precision whose runtimes are installed."""
    names = [name for name in LOWER_PRECISIONS if _installed(name.partition("-")[0])]
    model.save(module_path / "model.keras")
    environment = {**os.environ, **AS_A_USER, "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, "-c", LOWER, str(module_path), *names]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=600)
    return module_path


@pytest.mark.parametrize("name", LOWER_PRECISIONS)
def test_lower_precisions_are_near_predict_at_sizes_they_were_not_scaled_by(model, lowered, name):
    kind = name.partition("-")[0]
    if not _installed(kind):
        pytest.skip(f"{RUNTIMES[kind]} is not installed")
    batches = [check.sample_images(1, 128, 224, seed=8), check.sample_images(3, 50, 77, seed=9)]
    outputs = check.run(kind, lowered / name, batches)
    for index, images in enumerate(batches):
        expected = predict_batch(model, images, Options(logits=True))
        for actual, wanted in (
            (outputs[f"semseg_{index}"], [item.logits for item in expected]),
            (outputs[f"depth_{index}"], [item.depth for item in expected]),
        ):
            assert np.corrcoef(actual.ravel(), np.ravel(wanted))[0, 1] > LOWER_PRECISIONS[name]


def test_fixed_size_with_ids_agrees_with_predict(model, exported):
    pytest.importorskip("ai_edge_litert")
    images = check.sample_images(2, 70, 100)
    outputs = check.run("litert", exported[0] / "fixed" / FILES["litert"], [images])
    assert outputs["semseg_0"].dtype == np.int32 and outputs["semseg_0"].shape == (2, 70, 100)
    for index, prediction in enumerate(model.predict_images(images)):
        assert np.mean(outputs["semseg_0"][index] == prediction.semseg) >= 0.999
        np.testing.assert_allclose(outputs["depth_0"][index, ..., 0], prediction.depth, rtol=1e-3)


def test_the_images_tell_the_model_s_classes_and_depths_apart(model):
    """Else everything would agree with everything."""
    prediction = model.predict_images(check.sample_images(1, 64, 96)[0])
    assert len(np.unique(prediction.semseg)) > 8
    assert np.mean(prediction.depth > 4) > 0.5 and prediction.depth.std() > 3


def test_what_tensorflow_serving_asks_for(model, exported):
    """Signature and tensor names, dtypes and shapes; files in the place of pixels; the weights once."""
    tf = pytest.importorskip("tensorflow")
    folder = exported[0] / "saved_model"
    signatures = tf.saved_model.load(str(folder)).signatures
    assert set(signatures) == {"serving_default", "serving_bytes"}
    (name, spec), *more = signatures["serving_default"].structured_input_signature[1].items()
    assert (name, spec.dtype, spec.shape.as_list(), more) == ("image", tf.uint8, [None, None, None, 3], [])
    assert set(signatures["serving_default"].structured_outputs) == {"semseg", "depth"}

    images = check.sample_images(2, 50, 77)
    pixels = signatures["serving_default"](image=tf.constant(images))
    jpegs = [encode_jpeg(image) for image in images]
    decoded = np.stack([decode_image(file, "image.jpg") for file in jpegs])
    pixels_of_jpegs = signatures["serving_default"](image=tf.constant(decoded))
    for files, expected in (([encode_png(image) for image in images], pixels), (jpegs, pixels_of_jpegs)):
        found = signatures["serving_bytes"](image_bytes=tf.constant(files))
        np.testing.assert_allclose(found["depth"], expected["depth"], rtol=1e-5)
        np.testing.assert_allclose(found["semseg"], expected["semseg"], rtol=1e-4, atol=1e-4)

    weights = sum(4 * int(np.prod(variable.shape)) for variable in model.variables)
    assert (folder / "variables" / "variables.data-00000-of-00001").stat().st_size < 1.02 * weights


def test_onnx_says_what_its_dimensions_are(exported):
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(exported[0] / "model.onnx", load_external_data=False).graph
    shapes = {
        tensor.name: [dimension.dim_param or dimension.dim_value for dimension in tensor.type.tensor_type.shape.dim]
        for tensor in (*graph.input, *graph.output)
    }
    free = ["batch", "height", "width"]
    assert shapes == {"image": [*free, 3], "semseg": [*free, 19], "depth": [*free, 1]}
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


def facts_of(kind: str, path: Path) -> str | bytes:
    """What an export says of its dataset, read as docs/serving.md says."""
    if kind == "onnx":
        import onnxruntime

        return onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map["spec"]
    if kind == "openvino":
        # It forks as it is imported, which JAX does not like.
        program = "import openvino, sys; print(openvino.Core().read_model(sys.argv[1]).get_rt_info(['spec']).value)"
        command = [sys.executable, "-c", program, str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return zipfile.ZipFile(path).read("spec.json") if kind == "litert" else (path / "assets/spec.json").read_text()


@pytest.mark.parametrize("kind", FREE)
def test_an_export_says_what_its_ids_mean(model, exported, kind):
    if not _installed(kind):
        pytest.skip(f"{RUNTIMES[kind]} is not installed")
    assert DataSpec.from_dict(json.loads(facts_of(kind, exported[0] / FILES[kind]))) == model.spec


@pytest.mark.parametrize("name", LOWER_PRECISIONS)
def test_an_export_of_lower_precision_says_it_too(model, lowered, name):
    kind = name.partition("-")[0]
    if not _installed(kind):
        pytest.skip(f"{RUNTIMES[kind]} is not installed")
    assert DataSpec.from_dict(json.loads(facts_of(kind, lowered / name))) == model.spec


def test_an_export_of_another_model_does_not_pass(model, exported):
    other = decisive_model("joint")
    predict = other.get_layer("shared_predictor").get_layer("predict")
    predict.bias.assign(predict.bias + 0.5 * np.arange(20) / 20)
    agreement = check.compare(other, "saved_model", exported[0] / "saved_model", [check.sample_images(1, 64, 96)])
    assert not agreement.within_tolerance


def test_the_tolerance():
    assert Agreement(0.999, 1e-3, None, 0.1).within_tolerance
    assert not Agreement(0.9989, 1e-6, None, 0.1).within_tolerance
    assert not Agreement(1.0, 1.1e-3, None, 0.1).within_tolerance
    assert not Agreement(1.0, float("nan"), None, 0.1).within_tolerance


def test_nothing_is_written_over_and_the_other_formats_go_on(exported):
    """The SavedModel is there already; the Keras file is made all the same."""
    before = (exported[0] / "saved_model" / "saved_model.pb").read_bytes()
    command = export(str(exported[0]), "--format=saved_model,keras")
    output, errors = command.communicate(timeout=300)
    assert command.returncode == 1 and "keras" in output
    said = errors[errors.index("error: 1 not exported:") :].splitlines()
    assert len(said) == 2 and said[1].endswith("exists already; give another --out, or remove it")
    assert (exported[0] / "model.keras").is_file() and not list(exported[0].glob(".export-*"))
    assert (exported[0] / "saved_model" / "saved_model.pb").read_bytes() == before


@pytest.mark.parametrize(
    "kind, options, message",
    [
        ("tflite", {}, "format: 'tflite' is unknown; use one of saved_model, onnx, litert, openvino, keras"),
        ("onnx", {"precision": "float16"}, "size: an ONNX model of half precision has a fixed size"),
        ("saved_model", {"precision": "int8"}, "precision: saved_model has no int8"),
        ("keras", {"precision": "float16"}, "precision: keras has no float16"),
        ("keras", {"argmax": True}, "format: a .keras file has logits and free sizes"),
        ("keras", {"size": (64, 64)}, "format: a .keras file has logits and free sizes"),
        ("onnx", {"precision": "int8"}, "precision: int8 needs sample images"),
    ],
)
def test_what_a_format_cannot_do_is_refused(model, tmp_path, kind, options, message):
    with pytest.raises(UserError, match=f"^{message}") as refused:
        write(model, kind, tmp_path / "export", ExportOptions(**options))
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "export").exists()


def test_a_dataset_that_is_gone_may_be_given_and_else_hinders_no_export(model, tmp_path):
    run = write_run(tmp_path / "runs", model, arch="joint", dataset="miniscapes", prepared_dir=str(tmp_path))
    program = """
        import sys
        from trainers import export
        (source,) = export.FLAGS(sys.argv)[1:]
        print(export.measure_loss(None, "onnx", None, export.ExportOptions(), source))
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(run.path)]
    for moved, reason in (([], "no preparation of it lies"), (["--data_dir=/none"], "data_dir /none is no folder")):
        process = subprocess.run([*command, *moved], cwd=ROOT, capture_output=True, text=True, check=False)
        assert "its drop in grader is not measured (" in process.stdout and reason in process.stdout, process.stderr


def test_an_export_of_another_size_than_validation_has_says_which_to_give(model, tmp_path):
    write_miniscapes(tmp_path / "source", {"train": 1, "val": 1}, size=(72, 100))
    places = {"data_dir": str(tmp_path / "source"), "prepared_dir": str(tmp_path / "prepared")}
    run = write_run(tmp_path / "runs", model, arch="joint", dataset="miniscapes", **places)
    program = """
        import sys
        from trainers import export
        (source,) = export.FLAGS(sys.argv)[1:]
        print(export.measure_loss(None, "onnx", None, export.ExportOptions((32, 32)), source))
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(run.path)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.stdout.endswith("for validation images are cut to 64x96; give that as --size\n"), process.stderr


def test_a_missing_runtime_is_named(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(UserError, match="model.onnx: its runtime cannot run it"):
        check.run("onnx", tmp_path / "model.onnx", [check.sample_images(1, 32, 32)])


def test_semseg_png_keeps_ids_and_shows_colours(model):
    import io

    from PIL import Image

    ids = np.arange(19, dtype=np.uint8).reshape(1, 19)
    picture = Image.open(io.BytesIO(semseg_png(ids, model.spec)))
    np.testing.assert_array_equal(np.asarray(picture), ids)
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB"))[0], model.spec.palette)


def test_keras_own_export_says_what_its_backend_cannot(tmp_path, monkeypatch):
    tiny = harness.tiny_model()
    if keras.backend.backend() == "jax":
        with pytest.raises(UserError, match=r"one size; give it, as input_signature=.* or save the model"):
            tiny.export(tmp_path / "free")
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(UserError, match=r"PyTorch makes no SavedModel; load the model under TensorFlow"):
        tiny.export(tmp_path / "free")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch makes no SavedModel")
@pytest.mark.filterwarnings("ignore:The `native_serialization`:DeprecationWarning")
def test_keras_own_export_of_one_size_serves_what_the_network_says(tmp_path):
    tf = pytest.importorskip("tensorflow")
    tiny, images = harness.tiny_model(), harness.images(2, 32, 48)
    tiny.export(tmp_path / "served", input_signature=[keras.InputSpec("float32", (None, 32, 48, 3))], verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "served"))
    served = loaded.serve(images)
    for name, expected in harness.outputs(tiny, images).items():
        np.testing.assert_allclose(served[name], expected, rtol=1e-4, atol=1e-4)
