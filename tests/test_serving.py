"""The requests of docs/serving.md against a SavedModel, decoded as TensorFlow Serving's REST API decodes them."""

import base64
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tensorflow")

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "serving.md"
REQUEST = ROOT / "docs" / "serving" / "request.json"

# Rows and columns: https://www.tensorflow.org/tfx/serving/api_rest, "Request format" and "Encoding binary values".
SERVER = """
    import base64, io, json, sys
    import numpy as np
    import tensorflow as tf
    from PIL import Image
    from mtl_keras.exporting import ExportOptions, write
    from pathlib import Path
    from tests import harness

    folder, *requests = sys.argv[1:]
    model = harness.tiny_model(num_classes=4)
    harness.randomize(model)
    write(model, "saved_model", Path(folder), ExportOptions(argmax=True))
    signatures = tf.saved_model.load(folder).signatures

    def value(item):
        if isinstance(item, dict) and set(item) == {"b64"}:
            return base64.b64decode(item["b64"])
        return [value(part) for part in item] if isinstance(item, list) else item

    def columns(request):
        if "inputs" in request:
            return {name: value(column) for name, column in request["inputs"].items()}
        rows = request["instances"]
        return {name: [value(row[name]) for row in rows] for name in rows[0]}

    answers = []
    for path in requests:
        request = json.load(open(path))
        signature = signatures[request.get("signature_name", "serving_default")]
        specs = signature.structured_input_signature[1]
        given = {name: tf.constant(column, specs[name].dtype) for name, column in columns(request).items()}
        outputs = {name: output.numpy().tolist() for name, output in signature(**given).items()}
        if "instances" in request:
            sizes = {len(output) for output in outputs.values()}
            assert len(sizes) == 1, "rows need outputs of one batch size"
            answer = {"predictions": [dict(zip(outputs, row)) for row in zip(*outputs.values())]}
        else:
            answer = {"outputs": outputs}
        answers.append(answer)

    (row,) = json.load(open(requests[0]))["instances"]
    data = value(row["image_bytes"])
    expected = model.predict_images(np.asarray(Image.open(io.BytesIO(data))))
    expected = {"semseg": expected.semseg.tolist(), "depth": expected.depth.tolist()}
    print(json.dumps({"answers": answers, "expected": expected}))
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Answers to: the document's file in rows and in columns, its pixels, and the request of its shell command."""
    folder = tmp_path_factory.mktemp("serving")
    request = json.loads(REQUEST.read_text())
    (instance,) = request["instances"]
    columns = {"signature_name": "serving_bytes", "inputs": {name: [file] for name, file in instance.items()}}
    data = base64.b64decode(instance["image_bytes"]["b64"])
    (folder / "photo.jpg").write_bytes(data)
    with Image.open(folder / "photo.jpg") as photo:
        pixels = np.asarray(photo)
    shell = next(block for block in blocks("sh") if block.startswith("printf"))
    subprocess.run(["bash", "-c", shell], cwd=folder, check=True)
    paths = [REQUEST, folder / "columns.json", folder / "pixels.json", folder / "request.json"]
    paths[1].write_text(json.dumps(columns))
    paths[2].write_text(json.dumps({"instances": [{"image": pixels.tolist()}]}))
    command = [sys.executable, "-c", textwrap.dedent(SERVER), str(folder / "saved_model"), *map(str, paths)]
    environment = os.environ | {"KERAS_BACKEND": "tensorflow", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout.splitlines()[-1])


def blocks(language: str) -> list[str]:
    """The document's blocks of code."""
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), re.S)


def test_every_form_of_request_is_answered_with_the_models_predictions(served):
    rows, columns, pixels, shell = served[1]["answers"]
    first_column = {name: output[0] for name, output in columns["outputs"].items()}
    expected = served[1]["expected"]
    assert len(np.unique(expected["semseg"])) > 1 and np.std(expected["depth"]) > 0
    for answer in (rows["predictions"][0], first_column, shell["predictions"][0], pixels["predictions"][0]):
        assert np.mean(np.array(answer["semseg"]) == expected["semseg"]) > 0.999
        np.testing.assert_allclose(np.array(answer["depth"])[..., 0], expected["depth"], rtol=1e-4)


def test_the_answer_is_read_as_the_document_reads_it(served, monkeypatch, tmp_path):
    (tmp_path / "response.json").write_text(json.dumps(served[1]["answers"][0]))
    monkeypatch.chdir(tmp_path)
    (reader,) = blocks("python")
    names: dict = {}
    exec(reader, names)
    assert names["semseg"].shape == names["depth"].shape == (128, 256)


def test_signatures_are_those_of_the_table(served):
    """As `saved_model_cli`, TensorFlow's own, prints them."""
    command = [str(Path(sys.executable).parent / "saved_model_cli"), "show", "--dir", str(served[0] / "saved_model")]
    command += ["--tag_set", "serve", "--signature_def"]
    expected = {
        "serving_default": {"image": ("DT_UINT8", "(-1, -1, -1, 3)")},
        "serving_bytes": {"image_bytes": ("DT_STRING", "(-1)")},
    }
    outputs = {"semseg": ("DT_INT32", "(-1, -1, -1)"), "depth": ("DT_FLOAT", "(-1, -1, -1, 1)")}
    shown = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in expected]
    for (name, inputs), process in zip(expected.items(), shown, strict=True):
        said = process.communicate(timeout=120)[0]
        entries = re.findall(r"(inputs|outputs)\['(\w+)'\] tensor_info:\s+dtype: (\w+)\s+shape: (.*)", said)
        found = {kind: {key: (dtype, shape) for k, key, dtype, shape in entries if k == kind} for kind, *_ in entries}
        assert found["inputs"] == inputs and set(found["outputs"]) == set(outputs), said
        assert {key: dtype for key, (dtype, _) in found["outputs"].items()} == {k: v[0] for k, v in outputs.items()}
        assert f"`{name}`" in DOCUMENT.read_text() and f"`{next(iter(inputs))}`" in DOCUMENT.read_text()


def test_the_folder_is_what_the_servers_command_mounts(served):
    start = next(block for block in blocks("sh") if "docker run" in block)
    out = re.search(r"--out (\w+)", start)[1]
    assert f'"$PWD/{out}/saved_model:/models/street/1:ro"' in start and "MODEL_NAME=street" in start
    assert (served[0] / "saved_model" / "saved_model.pb").is_file()
