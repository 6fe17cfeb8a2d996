"""Files of strangers, each with an attack in it: refused in one line, nothing run or written, no memory filled."""

import io
import json
import resource
import struct
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import safetensors.numpy

import zoo
from mtl_keras.checkpoints import read_tensors, weights_of, write_tensors
from mtl_keras.data.archives import SourceFile, find_files
from mtl_keras.data.images import BadFile
from mtl_keras.encoders import read_weights
from mtl_keras.encoders import sources as encoder_sources
from mtl_keras.errors import UserError
from trainers import submission
from trainers.config import RunConfig, read_config
from trainers.hub import pull
from trainers.portable import without_places

LIGHT = {"arch": "joint", "encoder": "resnet18", "aspp": False, "skip": False}
BOMB_BYTES = 2**31
MOST_MEMORY = 2**30


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return zoo.build(**LIGHT)


@pytest.fixture(autouse=True)
def bounded():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST_MEMORY


def refused(function, *arguments, match: str | None = None) -> str:
    with pytest.raises(UserError, match=match) as error:
        function(*arguments)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1500
    return str(error.value)


# Models of Keras


def keras_file(path: Path, config: dict, weights: bytes = b"", **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("metadata.json", json.dumps({"keras_version": keras.__version__}))
        file.writestr("config.json", json.dumps(config))
        file.writestr("model.weights.h5", weights)
        for name, content in members.items():
            file.writestr(name, content)
    return path


def sequential(*layers: dict) -> dict:
    return {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": list(layers)}}


def harmful_layers(harm: Path) -> dict[str, dict]:
    """Layers whose loading would make the file `harm`."""
    code = f"open({str(harm)!r}, 'w')"
    call = {"module": "pathlib", "class_name": "Path.touch", "config": {"self": str(harm)}, "registered_name": None}
    return {
        "function of the library": {"module": "os", "class_name": "system", "config": f"touch {harm}"},
        "method of a class": call,
        "builtin": {"module": "builtins", "class_name": "exec", "config": code},
        "subclass": {"module": "subprocess", "class_name": "Popen", "config": {"args": ["touch", str(harm)]}},
        "lambda": {
            "module": "keras.layers",
            "class_name": "Lambda",
            "config": {"name": "l", "function": {"class_name": "__lambda__", "config": {"code": code}}},
        },
        "another file": {
            "module": "keras.layers",
            "class_name": "TFSMLayer",
            "config": {"filepath": str(harm.parent), "call_endpoint": "serve"},
        },
        "registered name": {"module": None, "class_name": "x", "registered_name": "os>system", "config": {}},
    }


@pytest.mark.parametrize("kind", harmful_layers(Path("harm")))
def test_code_in_a_keras_file_is_not_run(tmp_path, kind):
    harm = tmp_path / "harm"
    path = keras_file(tmp_path / "evil.keras", sequential(harmful_layers(harm)[kind]))
    messages = refused(zoo.load, path, match="cannot be loaded|holds a"), refused(read_weights, path, "resnet18")
    for message in messages:
        # The library's own words go on to how the code can be run all the same.
        assert str(path) in message and not any(word in message for word in ("safe_mode", "unsafe", "trust"))
    assert not harm.exists()


@pytest.mark.parametrize(
    "member",
    ["../../climbed", "assets/../../../climbed", "/tmp/mtl_keras_climbed", "..\\climbed", "C:climbed", "../new\nline"],
)
def test_a_keras_file_whose_members_climb_out_of_its_folder_is_refused(tmp_path, model, member):
    """Before Keras opens it, which would pass over the member and load the rest."""
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    path = inner / "evil.keras"
    model.save(path)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(member, b"x")
    refused(zoo.load, path, match="leads out of the folder")
    refused(read_weights, path, "resnet18", match="leads out of the folder")
    assert {found.name for found in tmp_path.rglob("*") if found.is_file()} == {"evil.keras"}
    assert not Path("/tmp/mtl_keras_climbed").exists()


def test_a_keras_file_of_no_model_is_refused(tmp_path):
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        file.create_group("vars")
    dense = {"module": "keras.layers", "class_name": "Dense", "config": {"name": "d", "units": 3}}
    path = keras_file(tmp_path / "dense.keras", dense, weights.getvalue())
    refused(zoo.load, path, match="holds a Dense")
    refused(read_weights, path, "resnet18", match="holds a Dense")


def zip_bomb(path: Path, member: str) -> Path:
    """An archive of few bytes whose member unpacks to two gibibytes."""
    block = bytes(2**22)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        with file.open(member, "w", force_zip64=True) as unpacked:
            for _ in range(BOMB_BYTES // 16 // len(block)):
                unpacked.write(block)
    # Its headers claim sixteen times what was written, for the test's sake.
    data = path.read_bytes()
    written, claimed = (struct.pack("<Q", size) for size in (BOMB_BYTES // 16, BOMB_BYTES))
    narrow = struct.pack("<I", BOMB_BYTES // 16), struct.pack("<I", BOMB_BYTES)
    path.write_bytes(data.replace(written, claimed).replace(*narrow))
    return path


@pytest.mark.parametrize("name, member", [("b.keras", "config.json"), ("b.pth", "b/data.pkl"), ("b.pt", "b/data/0")])
def test_a_bomb_is_not_unpacked(tmp_path, name, member):
    path = zip_bomb(tmp_path / name, member)
    assert path.stat().st_size < 2**20
    refused(read_weights, path, "resnet18", match="would unpack to")
    if path.suffix == ".keras":
        refused(zoo.load, path, match="would unpack to")


def test_an_hdf5_file_cannot_name_other_files_or_claim_memory(tmp_path, model):
    whole = tmp_path / "whole.weights.h5"
    model.save_weights(whole)
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(7 * 7 * 3 * 64 * 4))
    for name in ("link", "external", "claim"):
        path = tmp_path / f"{name}.weights.h5"
        path.write_bytes(whole.read_bytes())
        with h5py.File(path, "r+") as file:
            places = []
            file.visit(lambda place, places=places: places.append(place) if place.endswith("vars/0") else None)
            for place in places:
                shape = file[place].shape
                del file[place]
                if name == "link":
                    file[place] = h5py.ExternalLink(str(whole), place)
                elif name == "external":
                    file.create_dataset(place, shape, "f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])
                else:
                    file.create_dataset(place, (2**20, 2**20), "f4", chunks=(8, 8))
        refused(read_weights, path, "resnet18", match="not the weights of an encoder")


# Safetensors


def safetensors_file(path: Path, header: bytes, data: bytes = b"", length: int | None = None) -> Path:
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)
    return path


def entry(**changes) -> bytes:
    return json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **changes}}).encode()


@pytest.mark.parametrize(
    "header, length",
    [
        (b"{}", 2**63),
        (b"{}", 200 * 2**20),
        (b" " * (101 * 2**20), None),
        (b"[" * 100_000, None),
        (b'{"__metadata__": {"a": ' + b"[" * 50_000 + b"}}", None),
        (entry(shape=[2**62, 8]), None),
        (entry(shape=[-1]), None),
        (entry(data_offsets=[4, 0]), None),
        (entry(data_offsets=[0, 2**40]), None),
        (entry(dtype="OBJ"), None),
        (entry(dtype="F8_E4M3", data_offsets=[0, 1]), None),
        (b'{"__metadata__": {"facts": "{"}}', None),
        (b'{"__metadata__": {"facts": "' + b"[" * 60_000 + b'"}}', None),
        (b"\xff\xfe{}", None),
    ],
)
def test_a_forged_safetensors_header_is_refused(tmp_path, header, length):
    path = safetensors_file(tmp_path / "w.safetensors", header, bytes(4), length)
    refused(read_tensors, path)
    refused(zoo.load, path)
    refused(read_weights, path, "resnet18")


SPEC = {"name": "s", "classes": ["a", "b"], "palette": [[0, 0, 0]] * 2, "depth_range": [4, 300]}


@pytest.mark.parametrize(
    "facts",
    [
        {"architecture": {**LIGHT, "weights": "imagenet"}},
        {"architecture": {**LIGHT, "num_classes": 10**9}},
        {"architecture": {**LIGHT, "arch": "__init__"}},
        {"architecture": {**LIGHT, "encoder": "../../etc/passwd"}},
        {"architecture": {**LIGHT, "dilation": [1, 2]}},
        {"architecture": {**LIGHT, "dilation": None}},
        {"architecture": {}},
        {"architecture": [1]},
        {"architecture": None},
        {"spec": None},
        {"spec": {**SPEC, "code": "x"}},
        {"spec": {**SPEC, "classes": 5}},
        {"spec": {**SPEC, "palette": [1, 2]}},
        {"spec": {**SPEC, "depth_mean": "x"}},
    ],
)
def test_a_checkpoint_of_forged_facts_names_no_weights_and_builds_no_other_model(tmp_path, monkeypatch, model, facts):
    def download(*arguments, **options):
        pytest.fail("the network was asked")

    monkeypatch.setattr(encoder_sources, "hf_hub_download", download)
    path = tmp_path / "best.safetensors"
    architecture = {**LIGHT, "dilation": [False, False, True], "aspp_rates": [3, 6, 9]}
    given = {"architecture": architecture, "spec": model.spec.to_dict()}
    for name, value in facts.items():
        given[name] = {**given[name], **value} if isinstance(value, dict) and value else value
    write_tensors(path, {"a": np.zeros(3, "float32")}, given)
    refused(zoo.load, path)


# Runs, archives and the hub


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"epochs": ' + "9" * 5000 + "}",
        '{"learning_rate": Infinity}',
        '{"crop": [[1], [2]]}',
        '{"dataset": {"a": 1}}',
        '{"runs_dir": null}',
        '{"__class__": "os.system"}',
        "\0",
    ],
)
def test_a_forged_configuration_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text, encoding="utf-8", errors="replace")
    refused(read_config, tmp_path / "config.json")


def hub_folder(folder: Path, config: RunConfig, model) -> Path:
    write_tensors(folder / "checkpoints" / "best.safetensors", weights_of(model), {})
    (folder / "config.json").write_text(config.to_json())
    return folder


def test_what_is_pulled_leads_nowhere(tmp_path, model):
    places = {"data_dir": "/etc", "prepared_dir": str(tmp_path / "else"), "runs_dir": "/", "init_from": "/etc/passwd"}
    source = hub_folder(tmp_path / "hub", RunConfig(**places, epochs=3), model)

    def download(repository, *, local_dir, **options):
        for path in source.rglob("*"):
            if path.is_file():
                target = Path(local_dir) / path.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())

    pulled = read_config(pull("some/one", str(tmp_path / "runs"), download=download).config)
    assert pulled == RunConfig(epochs=3) == without_places(RunConfig(**places, epochs=3))
    assert without_places(RunConfig(pretrained="/etc/passwd")).pretrained is None
    assert without_places(RunConfig(pretrained="imagenet")).pretrained == "imagenet"

    def linking(repository, *, local_dir, **options):
        download(repository, local_dir=local_dir)
        (Path(local_dir) / "metrics.csv").symlink_to("/etc/passwd")

    refused(lambda: pull("some/links", str(tmp_path / "runs"), download=linking), match="holds a link")
    for name in ("..", ".", "a/.."):
        refused(lambda name=name: pull(name, str(tmp_path / "runs"), download=download))
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["one"]


def test_archives_of_a_dataset_are_neither_extracted_nor_believed(tmp_path):
    path = zip_bomb(tmp_path / "leftImg8bit.zip", "leftImg8bit/train/a.png")
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("leftImg8bit/../../climbed.png", b"x")
    found = find_files(tmp_path, ("leftImg8bit",))
    with pytest.raises(BadFile, match="bytes unpacked"):
        found["leftImg8bit/train/a.png"].read()
    assert not (tmp_path.parent / "climbed.png").exists()
    (tmp_path / "locked.zip").write_bytes(path.read_bytes().replace(b"PK\x03\x04", b"PK\x03\x05"))
    with pytest.raises(BadFile):
        SourceFile(tmp_path / "locked.zip", "leftImg8bit/../../climbed.png").read()


@pytest.mark.parametrize("content", [b"[1, 2]", b"null", b"[" * 100_000, b"{", b"\xff"])
def test_facts_of_an_archive_are_a_table_or_nothing(tmp_path, content):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("metrics.json", content)
    (tmp_path / "submission.zip").write_bytes(archive.getvalue())
    assert submission.read_json(tmp_path / "submission.zip", "metrics.json") == {}


def test_a_submission_that_is_a_bomb_is_named(tmp_path):
    path = zip_bomb(tmp_path / "submission.zip", "predictions/semseg/0.png")
    with zipfile.ZipFile(path) as file:
        problems, members = submission._listed(file)
    assert not members and "more than a prediction can have" in problems[0]


def test_whole_files_still_load(tmp_path, model):
    model.save(tmp_path / "model.keras")
    assert weights_of(zoo.load(tmp_path / "model.keras")).keys() == weights_of(model).keys()
    state = {"a": np.arange(4, dtype="float32")}
    (tmp_path / "a.safetensors").write_bytes(safetensors.numpy.save(state, metadata={"step": "3"}))
    tensors, facts = read_tensors(tmp_path / "a.safetensors")
    assert facts == {"step": 3} and tensors["a"].tolist() == [0, 1, 2, 3]
