"""What devices make of one model and one global batch, in a process of its own: `python -m tests.devices_probe`."""

import json
import pathlib
import sys

import keras
import numpy as np
from keras import layers

from mtl_keras import (
    SGD,
    BilinearUpsampling,
    Metres,
    MultiTaskModel,
    PixelNormalization,
    SpreadLike,
    UpsamplingConv2D,
    backend,
)
from mtl_keras.checkpoints import restore_training_state, training_state, weights_of
from mtl_keras.layers import Conv2D, MaxPooling2D, batch_norm
from tests import harness

BATCH, SIZE, STEPS = 8, (32, 48), 2


def batches() -> list[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Global batches whose halves and quarters have very different numbers of valid labels, some none at all."""
    made = []
    for seed in range(STEPS):
        image = harness.images(BATCH, *SIZE, seed=seed) * np.linspace(0.2, 1, BATCH)[:, None, None, None]
        labels = harness.labels(BATCH, *SIZE, num_classes=4, seed=seed)
        labels["semseg"][:2], labels["semseg"][2, 3:] = 255, 255
        labels["depth"][0], labels["depth"][4:6], labels["depth"][6, :, 5:] = 0, 0, 0
        made.append((image.astype("float32"), labels))
    return made


BATCH_NORMS = 3


def network() -> MultiTaskModel:
    """Every layer that has kernels of a backend's own, once or twice."""
    facts = harness.spec()
    image = keras.Input((None, None, 3), name="image")
    x = PixelNormalization((127.5,) * 3, (64.0,) * 3, 4, name="normalization")(image)
    shallow = batch_norm(Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="conv")(x), name="norm")
    deep = MaxPooling2D(3, strides=2, name="pool")(layers.ZeroPadding2D(1)(layers.ReLU()(shallow)))
    deep = layers.ReLU()(batch_norm(Conv2D(8, 1, use_bias=False, name="pointwise")(deep), name="deep_norm"))
    pooled = SpreadLike(name="spread")(layers.GlobalAveragePooling2D(keepdims=True)(deep), deep)
    x = layers.Concatenate()([deep, pooled])
    x = UpsamplingConv2D(8, 3, scale=2, use_bias=False, name="refine")([x, shallow])
    x = layers.ReLU()(batch_norm(x, name="refine_norm"))
    x = Conv2D(facts.num_classes + 1, 1, dtype="float32", name="predict")(x)
    x = BilinearUpsampling(2, dtype="float32", name="upsample")(x)
    depth = Metres(facts.depth_mean, facts.depth_std, name="metres")(x[..., -1:])
    return MultiTaskModel(image, {"semseg": x[..., :-1], "depth": depth}, name="network", spec=facts)


class Share(keras.utils.PyDataset):
    """This process's share of the batches, as the loader deals them out."""

    def __init__(self):
        super().__init__()
        self.steps = batches()
        self.part = slice(backend.process_index(), None, backend.process_count())

    def __len__(self) -> int:
        return STEPS

    def __getitem__(self, step: int):
        image, labels = self.steps[step]
        return image[self.part], {name: label[self.part] for name, label in labels.items()}


def probe(devices: int, synchronized: bool = True) -> dict[str, np.ndarray]:
    """Logs, weights and batch statistics after an epoch, and what a picture would show."""
    parallel = backend.Parallel.over(devices, synchronized)
    with parallel.scope():
        backend.set_random_seed(0)
        model = network()
        model.compile(SGD(0.05, momentum=0.9, weight_decay=1e-3))
        model.optimizer.build(model.trainable_variables)
        parallel.prepare(model)
        found = {f"before/{name}": value for name, value in weights_of(model).items()}
        history = model.fit(Share(), shuffle=False, epochs=1, validation_data=Share(), verbose=0).history
        found |= {f"after/{name}": value for name, value in weights_of(model).items()}
        found |= {f"logs/{name}": np.array(values[0]) for name, values in history.items()}
        found |= {f"restored/{name}": value for name, value in restored(model).items()}
        image = batches()[0][0][:3]
        found |= {f"picture/{name}": value for name, value in backend.local_predictor(model)(image).items()}
        found["described"] = np.array(backend.describe())
    return found


def restored(model: keras.Model) -> dict[str, np.ndarray]:
    """The logs of metrics that were saved, lost and put back, as when a run goes on within an epoch."""
    state = training_state(model)
    model.reset_metrics()
    restore_training_state(model, state)
    return {name: keras.ops.convert_to_numpy(value) for name, value in model.get_metrics_result().items()}


def make_four_devices() -> None:
    """TensorFlow's virtual CPU devices; JAX's come from XLA_FLAGS."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)


def main(folder: str, cases: str, connection: str) -> None:
    if connection != "null":
        backend.connect(**json.loads(connection))
    make_four_devices()
    for case in json.loads(cases):
        found = probe(**case)
        if backend.process_index() == 0:
            name = "-".join([keras.backend.backend(), *map(str, case.values())])
            np.savez(pathlib.Path(folder) / f"{name}.npz", **found)
    backend.disconnect()


if __name__ == "__main__":
    main(*sys.argv[1:])
