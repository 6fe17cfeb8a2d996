"""Every encoder through the harness, under the least of heads.

The parameter counts are torchvision's (of the whole network, less the classifier), plus the heads' by hand.
"""

import pytest

from mtl_keras.encoders import VARIANTS, output_stride
from tests import harness

TORCHVISION = {"resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032, "resnet101": 44_549_160}


def with_light_heads(encoder: str, channels: int) -> int:
    """Classifier channels·1000 + 1000 off; a 1×1 convolution with its batch norm and the predictor on."""
    return TORCHVISION[encoder] - (channels * 1000 + 1000) + (channels * 256 + 2 * 256) + (256 * 20 + 20)


class LightHeads(harness.ModelTests):
    arch = "joint"


class TestResNet34(LightHeads):
    options = {"encoder": "resnet34", "aspp": False, "skip": False}
    parameters_of = {}
    parameters = with_light_heads("resnet34", 512)
    # Its blocks are ResNet-18's, which the topologies train.
    test_learns_with_every_weight = None


class TestResNet50(LightHeads):
    options = {"encoder": "resnet50", "aspp": False, "skip": False}
    parameters_of = {}
    parameters = with_light_heads("resnet50", 2048)


class TestResNet101(LightHeads):
    options = {"encoder": "resnet101", "aspp": False, "skip": False}
    parameters_of = {}
    parameters = with_light_heads("resnet101", 2048)
    # XLA takes half a minute for this training step; its blocks are ResNet-50's.
    test_learns_with_every_weight = None


def test_the_harness_has_every_encoder():
    tested = {case.options["encoder"] for case in (harness.ModelTests, *LightHeads.__subclasses__())}
    assert set(VARIANTS) <= tested


@pytest.mark.parametrize(
    "dilation, stride", [((False, False, False), 32), ((False, False, True), 16), ((False, True, True), 8)]
)
def test_output_stride(dilation, stride):
    assert output_stride(dilation) == stride
