"""Runs an exported model with its runtime alone: `python runtimes.py FORMAT FILE IMAGES.npz OUTPUTS.npz`.

Nothing of this library is imported (but for the format `keras`, which is this library's own), so the file also shows
how an export is used. `IMAGES.npz` holds `image_0`, `image_1`, …, each (batch, height, width, 3) uint8; `OUTPUTS.npz`
gets `semseg_0`, `depth_0`, …, and `latency`, the median seconds of five runs of `image_0` after its first.
"""

import os
import statistics
import sys
import time

import numpy as np


def saved_model(path):
    import tensorflow as tf

    run = tf.saved_model.load(path).signatures["serving_default"]
    return lambda image: {name: value.numpy() for name, value in run(image=tf.constant(image)).items()}


def onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda image: dict(zip(names, session.run(names, {"image": image}), strict=True))


def litert(path):
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(path, num_threads=os.cpu_count()).get_signature_runner("serving_default")
    return lambda image: run(image=image)


def openvino(path):
    import openvino

    # The processor's own half precision would be taken for float32 models too.
    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(image):
        outputs = model({"image": image})
        return {name: outputs[name] for name in ("semseg", "depth")}

    return run


def keras(path):
    from keras.saving import load_model

    import mtl_keras  # noqa: F401

    model = load_model(path)

    def run(image):
        predictions = model.predict_images(image, logits=True)
        return {
            "semseg": np.stack([prediction.logits for prediction in predictions]),
            "depth": np.stack([prediction.depth for prediction in predictions])[..., None],
        }

    return run


RUNTIMES = {"saved_model": saved_model, "onnx": onnx, "litert": litert, "openvino": openvino, "keras": keras}


def latency(run, image):
    """The median seconds of five runs."""
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        run(image)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def main(kind, path, images, outputs):
    run = RUNTIMES[kind](path)
    given = np.load(images)
    results = {}
    for index in range(len(given.files)):
        for name, value in run(given[f"image_{index}"]).items():
            results[f"{name}_{index}"] = np.array(value)
    results["latency"] = np.array(latency(run, given["image_0"]))
    np.savez(outputs, allow_pickle=False, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
