"""Where an encoder's weights can come from, and what is said when they cannot."""

import hashlib
import json
import pickle
import struct
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import safetensors.numpy
from huggingface_hub import constants

import zoo
from mtl_keras import UserError
from mtl_keras.checkpoints import weights_of, write_tensors
from mtl_keras.encoders import read_weights, sources
from mtl_keras.encoders.pretrained import torchvision_tensors
from tests.harness import images, randomize, relative_error

LIGHT = {"encoder": "resnet18", "aspp": False, "skip": False}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A model whose encoder the sources are made of."""
    model = zoo.build("joint", **LIGHT)
    randomize(model)
    return model


@pytest.fixture(scope="module")
def tensors(model) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(x) for name, x in torchvision_tensors(model.get_layer("encoder")).items()}


@pytest.fixture(scope="module")
def published(tensors, tmp_path_factory) -> Path:
    """A file as timm publishes them: with the classifier, counters and PyTorch's metadata."""
    path = tmp_path_factory.mktemp("published") / "model.safetensors"
    state = {**tensors, "fc.weight": np.zeros((10, 512), "float32"), "bn1.num_batches_tracked": np.array(7)}
    safetensors.numpy.save_file(state, path, metadata={"format": "pt"})
    return path


def assert_loads(source, tensors, **options):
    copy = zoo.build("joint", **{**LIGHT, **options}, weights=source)
    for name, value in torchvision_tensors(copy.get_layer("encoder")).items():
        np.testing.assert_array_equal(value, tensors[name], err_msg=name)


def one_line(source, variant="resnet18", match=None):
    with pytest.raises(UserError, match=match) as error:
        read_weights(source, variant)
    assert "\n" not in str(error.value)
    return str(error.value)


# Files


@pytest.mark.parametrize("dilation", [(False, False, False), (False, True, True)])
def test_safetensors_under_any_dilation(published, tensors, dilation):
    assert_loads(published, tensors, dilation=dilation)


def test_what_was_not_used_is_logged(published, caplog):
    caplog.set_level("INFO", "mtl_keras")
    zoo.build("joint", **LIGHT, weights=str(published))
    assert f"encoder: resnet18 with weights of {published}; not used: fc.weight" in caplog.messages


def save_model(model, path):
    model.save(path)


def save_encoder(model, path):
    model.get_layer("encoder").save(path)


def save_weights(model, path):
    model.save_weights(path)


def save_encoder_weights(model, path):
    model.get_layer("encoder").save_weights(path)


def save_checkpoint(model, path):
    write_tensors(path, weights_of(model), {"architecture": {}})


def save_state(model, path):
    write_tensors(path, {f"model/{name}": value for name, value in weights_of(model).items()}, {"step": 3})


@pytest.mark.parametrize(
    "save, name",
    [
        (save_model, "model.keras"),
        (save_encoder, "encoder.keras"),
        (save_weights, "model.weights.h5"),
        (save_encoder_weights, "encoder.weights.h5"),
        (save_checkpoint, "best.safetensors"),
        (save_state, "step.safetensors"),
    ],
)
def test_files_of_this_library_and_of_keras(model, tensors, tmp_path, save, name):
    save(model, tmp_path / name)
    assert_loads(tmp_path / name, tensors, dilation=(False, False, False))


def test_a_run_gives_its_best_encoder(model, tensors, tmp_path):
    save_checkpoint(model, tmp_path / "checkpoints" / "best.safetensors")
    assert_loads(tmp_path, tensors)


def test_a_pth_of_torchvision(tensors, tmp_path):
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(value) for name, value in tensors.items()}
    torch.save({**state, "fc.bias": torch.zeros(10)}, tmp_path / "plain.pth")
    assert_loads(tmp_path / "plain.pth", tensors)
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "whole.pth")
    assert_loads(tmp_path / "whole.pth", tensors)


def test_a_pth_without_torch_says_what_it_needs(tmp_path, monkeypatch):
    (tmp_path / "w.pth").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", None)
    one_line(tmp_path / "w.pth", match="w.pth: needs torch to read; install it")


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_malicious_pickle_is_refused_and_not_run(tmp_path):
    torch = pytest.importorskip("torch")
    harm = tmp_path / "harm"
    torch.save({"conv1.weight": Malicious(harm)}, tmp_path / "zip.pth")
    for protocol in (2, 4):  # torch warns of the newer
        (tmp_path / f"plain{protocol}.pth").write_bytes(pickle.dumps(Malicious(harm), protocol))
    for name in ("zip.pth", "plain2.pth", "plain4.pth"):
        message = one_line(tmp_path / name, match="not a whole file of tensors alone .*needs code of its own")
        # Torch's own words go on to how the code can be run all the same.
        assert "weights_only" not in message and "trust" not in message
    assert not harm.exists()


def test_what_is_no_file_of_weights_is_refused(published, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save([1, 2], tmp_path / "list.pth")
    one_line(tmp_path / "list.pth", match="holds no tensors by name")
    for name in ("torn.safetensors", "torn.pth", "torn.keras", "torn.weights.h5"):
        (tmp_path / name).write_bytes(published.read_bytes()[:5000])
        assert name in one_line(tmp_path / name, match="not a whole|cannot be loaded|not the weights")
    one_line(tmp_path, match="holds none of model.safetensors")
    one_line(tmp_path / "missing.pth", match="no such weights; give imagenet, timm/NAME")
    (tmp_path / "w.txt").touch()
    one_line(tmp_path / "w.txt", match="'.txt' is no file of weights")


def test_a_file_of_another_variant_is_refused(published, model, tmp_path):
    with pytest.raises(UserError, match=r"model.safetensors: holds a resnet18, not a resnet34"):
        zoo.build("joint", encoder="resnet34", weights=published)
    save_weights(model, tmp_path / "model.weights.h5")
    one_line(tmp_path / "model.weights.h5", "resnet34", match="holds 20 convolutions, a resnet34 has 36")


# The hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache and no network, as HF_HUB_CACHE and HF_HUB_OFFLINE set them."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def put(hub: Path, repository: str, commit: str, files: dict[str, bytes]) -> None:
    """Files in the cache as huggingface_hub lays it out: blobs, snapshots of links, and the branch's commit."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    for part in ("blobs", "refs", f"snapshots/{commit}"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text(commit)
    for name, content in files.items():
        blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        (folder / "snapshots" / commit / name).symlink_to(blob)


def test_imagenet_comes_from_the_cache_at_its_pinned_commit(hub, published, tensors, monkeypatch):
    content = published.read_bytes()
    pin = sources.PINS["timm/resnet18.tv_in1k"]
    put(hub, "timm/resnet18.tv_in1k", pin.revision, {"model.safetensors": content})
    with pytest.raises(UserError, match="is not the file that timm/resnet18.tv_in1k published"):
        read_weights("imagenet", "resnet18")
    checksum = hashlib.sha256(content).hexdigest()
    monkeypatch.setitem(sources.PINS, "timm/resnet18.tv_in1k", pin._replace(sha256=checksum))
    assert_loads("imagenet", tensors)


def test_other_plain_resnets_of_timm(hub, published, tensors):
    content = published.read_bytes()
    config = b'{"pretrained_cfg": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}}'
    put(hub, "timm/resnet18.a1_in1k", COMMIT, {"model.safetensors": content, "config.json": config})
    assert_loads("timm/resnet18.a1_in1k", tensors)
    assert_loads(f"timm/resnet18.a1_in1k@{COMMIT}", tensors)
    config = config.replace(b"0.4", b"0.5")
    put(hub, "timm/resnet18.halves", COMMIT, {"model.safetensors": content, "config.json": config})
    one_line("timm/resnet18.halves", match="its images have mean and deviation .* not ImageNet's")


@pytest.mark.parametrize("config", [b"[1]", b"null", b'{"pretrained_cfg": null}', b'{"mean": "half", "std": 1}'])
def test_a_config_that_says_nothing_of_normalization_is_passed_over(hub, published, tensors, config):
    files = {"model.safetensors": published.read_bytes(), "config.json": config}
    put(hub, "timm/resnet18.a1_in1k", COMMIT, files)
    assert_loads("timm/resnet18.a1_in1k", tensors)


def test_numbers_that_are_no_weights_are_refused(tensors, tmp_path):
    quantized = {name: (100 * value).astype("int8") for name, value in tensors.items()}
    safetensors.numpy.save_file(quantized, tmp_path / "int8.safetensors")
    one_line(tmp_path / "int8.safetensors", match="holds int8, not floating-point weights")
    header = json.dumps({"conv1.weight": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "fp8.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    one_line(tmp_path / "fp8.safetensors", match="its numbers cannot be read")


def test_without_a_network_one_line_says_what_was_tried(hub):
    message = one_line("imagenet", "resnet34")
    for part in ("timm/resnet34.tv_in1k", "1b7b21cca82f", str(hub), "https://huggingface.co", "offline mode", ".pth"):
        assert part in message
    with pytest.raises(UserError, match="cannot be fetched"):
        zoo.build("joint", **LIGHT, weights="imagenet")


@pytest.mark.parametrize(
    "source, match",
    [
        ("timm/resnet50d.ra2_in1k", "'resnet50d' is not of torchvision's plain layout"),
        ("timm/resnet34.a1_in1k", "holds a resnet34, not a resnet18"),
        ("timm/resnet18.a b", "is no name on the hub"),
        ("keras_cv/resnet50_imagenet", "stride in the first 1x1 convolution"),
        ("imagnet", "no such weights; give imagenet"),
    ],
)
def test_names_that_do_not_fit(hub, source, match):
    one_line(source, match=match)


# keras-hub


def test_keras_hub_needs_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    one_line("keras_hub/resnet_18_imagenet", match="needs keras-hub; install it: pip install keras-hub")


@pytest.mark.parametrize("variant, block", [("resnet18", "basic_block"), ("resnet50", "bottleneck_block")])
def test_features_equal_keras_hub(variant, block, tmp_path):
    keras_hub = pytest.importorskip("keras_hub")
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[2, 2, 2, 2] if variant == "resnet18" else [3, 4, 6, 3],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type=block,
    )
    randomize(backbone)
    backbone.save_to_preset(tmp_path)
    scale, offset = (1 / np.array(sources.PIXEL_STD)), -np.array(sources.PIXEL_MEAN) / sources.PIXEL_STD
    converter = keras_hub.layers.ResNetImageConverter(scale=scale.tolist(), offset=offset.tolist())
    converter.save_to_preset(tmp_path)
    model = zoo.build("joint", **{**LIGHT, "encoder": variant}, dilation=(False,) * 3, weights=f"keras_hub/{tmp_path}")
    image = model.get_layer("normalization")(images(1, 96, 160))
    expected = keras.Model(backbone.inputs, backbone.pyramid_outputs)(image)
    actual = model.get_layer("encoder")(image)
    for stage in (1, 2, 3, 4):
        assert relative_error(actual[f"layer{stage}"], expected[f"P{stage + 1}"]) < 1e-4
