"""keras-cv's spatial pyramid pooling as an independent check of the ASPP.

It maps layer by layer, but for the epsilon of its batch normalisations. The rest of keras-cv's DeepLabV3+ does not: it
has no 3×3 convolutions behind the concatenation, upsamples by a fixed 8 and ends in a softmax; and its ResNet-50
strides in the first 1×1 convolution of a block, where torchvision's strides in the 3×3.

keras-cv imports TensorFlow, so it runs in a process of its own.
"""

import importlib.util
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from mtl_keras.heads import aspp
from tests import harness

ROOT = pathlib.Path(__file__).parent.parent

PROBE = """
import sys
import keras, keras_cv, numpy as np

given = np.load(sys.argv[1])
pooling = keras_cv.layers.SpatialPyramidPooling(dilation_rates=[3, 6, 9])
pooling.build(given["x"].shape)
parts = [*pooling.aspp_parallel_channels, pooling.projection]
names = ["branch0", "branch1", "branch2", "branch3", "pooled", "project"]
for part, name in zip(parts, names, strict=True):
    convolution, norm = (next(l for l in part.layers if isinstance(l, kind))
                         for kind in (keras.layers.Conv2D, keras.layers.BatchNormalization))
    norm.epsilon = 1e-5
    convolution.set_weights([given[name + "_conv/0"]])
    norm.set_weights([given[f"{name}_bn/{i}"] for i in range(4)])
np.savez(sys.argv[2], y=pooling(given["x"]))
"""


def test_aspp_equals_spatial_pyramid_pooling(tmp_path):
    if importlib.util.find_spec("keras_cv") is None:
        pytest.skip("keras-cv is not installed")
    x = np.random.default_rng(0).normal(size=(2, 12, 10, 64)).astype("float32")
    image = keras.Input((None, None, 64))
    model = keras.Model(image, aspp(image, name="aspp"))
    harness.randomize(model)
    weights = {
        f"{layer.name}/{index}": value
        for layer in model.get_layer("aspp").layers
        for index, value in enumerate(layer.get_weights())
    }
    np.savez(tmp_path / "given.npz", x=x, **weights)
    command = [sys.executable, "-c", PROBE, tmp_path / "given.npz", tmp_path / "found.npz"]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    expected = np.load(tmp_path / "found.npz")["y"]
    assert expected.shape == (2, 12, 10, 256)
    assert harness.relative_error(keras.ops.convert_to_numpy(model(x)), expected) < 2e-6
