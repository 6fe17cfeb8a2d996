"""Pretrained encoders against a plain PyTorch ResNet with torchvision's names."""

import keras
import numpy as np
import pytest

from mtl_keras import UserError
from mtl_keras.encoders import VARIANTS, EncoderWeights, load_weights, resnet
from mtl_keras.encoders.pretrained import select_encoder
from tests.harness import relative_error

torch = pytest.importorskip("torch")

from benchmarks.peers.torch_model import ResNet  # noqa: E402

STAGES = ("layer1", "layer2", "layer3", "layer4")
NO, LAST, LAST_TWO = (False, False, False), (False, False, True), (False, True, True)
SIZES = ((96, 160), (224, 32))


def random_network(variant: str, dilation=NO) -> ResNet:
    """A network with running statistics, scales and shifts that show every mistake."""
    torch.manual_seed(0)
    network = ResNet(variant, dilation).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.4, 0.9)
            torch.nn.init.normal_(module.bias, 0, 0.2)
            torch.nn.init.normal_(module.running_mean, 0, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network


def torchvision_state(network: ResNet) -> dict[str, np.ndarray]:
    """What torchvision's own file holds: the network, its counters and a classifier."""
    state = {name: value.numpy().copy() for name, value in network.state_dict().items()}
    return {**state, "fc.weight": np.zeros((1000, network.channels)), "fc.bias": np.zeros(1000)}


def torch_features(network: ResNet, image: np.ndarray) -> dict[str, np.ndarray]:
    x = torch.from_numpy(image.transpose(0, 3, 1, 2).copy())
    features = {}
    with torch.no_grad():
        x = network.maxpool(torch.relu(network.bn1(network.conv1(x))))
        for stage in STAGES:
            x = getattr(network, stage)(x)
            features[stage] = x.numpy().transpose(0, 2, 3, 1)
    return features


def encoder(variant: str, dilation=NO) -> keras.Model:
    image = keras.Input((None, None, 3), name="image")
    return keras.Model(image, resnet(image, variant=variant, dilation=dilation, name="encoder"))


def inner(model: keras.Model) -> keras.Model:
    return model.get_layer("encoder")


def normalised_image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, (1, height, width, 3)).astype("float32")


def loaded(variant: str, state: dict[str, np.ndarray], dilation=NO) -> keras.Model:
    model = encoder(variant, dilation)
    load_weights(inner(model), select_encoder(state, "test"))
    return model


def errors(model: keras.Model, network: ResNet, size: tuple[int, int]) -> list[float]:
    image = normalised_image(*size)
    actual, expected = model.predict_on_batch(image), torch_features(network, image)
    return [relative_error(actual[stage], expected[stage]) for stage in STAGES]


@pytest.mark.parametrize("variant", VARIANTS)
def test_features_equal_torch_at_every_depth(variant):
    network = random_network(variant)
    model = loaded(variant, torchvision_state(network))
    for size in SIZES:
        assert max(errors(model, network, size)) < 1e-4


# Torchvision's rule for bottlenecks is the same for every depth of them, and so is the report's for basic blocks.
@pytest.mark.parametrize("variant", ["resnet34", "resnet50"])
@pytest.mark.parametrize("dilation", [LAST, LAST_TWO])
def test_the_same_weights_under_dilation(variant, dilation):
    network = random_network(variant, dilation)
    model = loaded(variant, torchvision_state(network), dilation)
    assert max(errors(model, network, SIZES[0])) < 1e-4


def test_the_comparison_sees_a_permuted_tensor():
    network = random_network("resnet18")
    state = torchvision_state(network)
    state["layer3.1.conv2.weight"] = state["layer3.1.conv2.weight"][::-1]
    layer1, layer2, layer3, layer4 = errors(loaded("resnet18", state), network, SIZES[0])
    assert max(layer1, layer2) < 1e-4
    assert min(layer3, layer4) > 1e-2


def test_a_whole_network_gives_its_encoder_and_the_rest_is_listed():
    state = {f"module.encoder.{name}": value for name, value in torchvision_state(random_network("resnet18")).items()}
    state["module.decoder.conv1.weight"] = np.zeros((8, 8, 3, 3))
    weights = select_encoder(state, "test")
    assert weights.unused == ("module.decoder.conv1.weight", "module.encoder.fc.bias", "module.encoder.fc.weight")
    model = encoder("resnet18")
    load_weights(inner(model), weights)
    kernel = model.get_layer("encoder").get_layer("layer4_1_conv2").kernel
    expected = state["module.encoder.layer4.1.conv2.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(kernel), expected)


def _without(name):
    return lambda state: state.pop(name)


def _with(name, value):
    return lambda state: state.update({name: value})


@pytest.mark.parametrize(
    "change, message",
    [
        (_without("layer2.0.downsample.1.running_var"), "lacks 'layer2.0.downsample.1.running_var'"),
        (_without("conv1.weight"), "has no conv1.weight"),
        (_with("layer1.0.se.fc1.weight", np.zeros((4, 64))), "'layer1.0.se.fc1.weight' is of no plain resnet18"),
        (
            _with("layer1.1.conv2.weight", np.zeros((64, 64, 3, 2))),
            r"'layer1.1.conv2.weight' is \(64, 64, 3, 2\), but the encoder needs \(64, 64, 3, 3\)",
        ),
        (_with("bn1.bias", np.full(64, np.nan)), "'bn1.bias' has values that no weights have"),
        (_with("bn1.running_var", np.full(64, -1.0)), "'bn1.running_var' has values that no weights have"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_change_nothing(change, message):
    state = torchvision_state(random_network("resnet18"))
    change(state)
    model = encoder("resnet18")
    before = model.get_weights()
    with pytest.raises(UserError, match=message) as error:
        load_weights(inner(model), select_encoder(state, "weights.safetensors"))
    assert str(error.value).startswith("weights.safetensors: ") and "\n" not in str(error.value)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    "blocks, bottleneck, held",
    [
        ((2, 2, 2, 2), False, "resnet18"),
        ((3, 4, 23, 3), True, "resnet101"),
        ((3, 8, 36, 3), True, "ResNet of 3-8-36-3 bottleneck blocks"),
    ],
)
def test_another_variant_is_named(blocks, bottleneck, held):
    names = ["conv1.weight"] + ["layer1.0.conv3.weight"] * bottleneck
    names += [f"layer{stage}.{i}.conv1.weight" for stage, count in enumerate(blocks, 1) for i in range(count)]
    weights = EncoderWeights(dict.fromkeys(names, np.zeros(1)), "test")
    with pytest.raises(UserError, match=f"holds a {held}, not a resnet34; give weights of a resnet34"):
        load_weights(inner(encoder("resnet34")), weights)


def test_a_deep_stem_is_named():
    state = {"conv1.0.weight": np.zeros(1), "layer1.0.conv1.weight": np.zeros(1)}
    with pytest.raises(UserError, match="deep stem"):
        select_encoder(state, "test")
