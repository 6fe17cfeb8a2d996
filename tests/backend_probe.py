"""What one backend makes of a saved model, in a process of its own."""

import pathlib

import keras
import numpy as np

import mtl_keras
import zoo
from mtl_keras.checkpoints import read_tensors, weights_of, write_tensors
from tests import harness

SEED, SIZE, ENCODER, RATE = 7, (64, 64), "resnet18", 2.0**-6


def probe(folder: pathlib.Path) -> None:
    image, labels = harness.images(4, *SIZE), harness.labels(4, *SIZE)
    keras.utils.set_random_seed(SEED)
    built = zoo.build("distillation", encoder=ENCODER)
    found = {f"built/{index}": summary(value) for index, value in enumerate(built.get_weights())}

    model = keras.saving.load_model(folder / "model.keras")
    # As the network says it, with depth outside the range too.
    predictions = keras.Model.predict_on_batch(model, image)
    found |= {f"predictions/{name}": value for name, value in predictions.items()}
    found |= {f"scores/{name}": value for name, value in scores(model, labels, predictions).items()}
    # XLA takes longest to start on TensorFlow, and nothing here depends on it.
    jit_compile = False if keras.backend.backend() == "tensorflow" else "auto"
    model.compile(mtl_keras.SGD(RATE, weight_decay=1e-4), jit_compile=jit_compile)
    found["loss"] = model.fit(image, labels, batch_size=4, verbose=0).history["loss"][0]
    found |= {f"trained/{index}": value for index, value in enumerate(model.get_weights())}
    write_tensors(folder / f"{keras.backend.backend()}.safetensors", weights_of(model), {})
    kept = read_tensors(folder / f"{keras.backend.backend()}.safetensors")[0]
    found["kept"] = all(np.array_equal(kept[name], value) for name, value in weights_of(model).items())
    np.savez(folder / f"{keras.backend.backend()}.npz", **found)


def scores(model, labels, predictions) -> dict[str, float]:
    """Both losses and both metrics of the final predictions."""
    scorers = {
        "semseg_loss": mtl_keras.SegmentationLoss(),
        "depth_loss": mtl_keras.DepthLoss(),
        "miou": mtl_keras.MeanIoU(model.spec.num_classes),
        "silog": mtl_keras.SILogRMSE(model.spec.depth_range),
    }
    tasks = {"semseg_loss": "semseg", "miou": "semseg", "depth_loss": "depth", "silog": "depth"}
    return {name: float(score(labels[tasks[name]], predictions[tasks[name]])) for name, score in scorers.items()}


def summary(weight: np.ndarray) -> np.ndarray:
    """A few numbers that differ if the weight does."""
    return np.array([weight.sum(dtype="float64"), np.abs(weight).sum(dtype="float64"), weight.ravel()[0]])
