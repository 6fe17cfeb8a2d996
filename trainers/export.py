"""Exports a run's best model: `python -m trainers.export RUN --format saved_model`."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from absl import flags

from mtl_keras.errors import UserError
from trainers import cli

FLAGS = flags.FLAGS

flags.DEFINE_enum("format", "saved_model", ["saved_model"], "what to write")
flags.DEFINE_bool("argmax", False, "return class ids in the place of logits")
flags.DEFINE_string("out", None, "where to write; into the run's folder by default")

# Largest difference between an export and `predict`, relative to the largest value of the output.
TOLERANCE = 1e-4


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise UserError("give one run, such as `python -m trainers.export runs/NAME`")
    # A SavedModel is made by TensorFlow, whatever backend the model was trained with.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import zoo
    from mtl_keras.export import export_saved_model

    source = Path(arguments[0])
    model = zoo.load(source)
    target = Path(FLAGS.out) if FLAGS.out else (source if source.is_dir() else source.parent) / "saved_model"
    if target.exists():
        raise UserError(f"{target}: exists already; give another --out, or remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as scratch:
        written = Path(scratch) / "saved_model"
        export_saved_model(model, written, argmax=FLAGS.argmax)
        difference = check(model, written, FLAGS.argmax)
        shutil.move(written, target)
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    print(f"saved_model {target} ({size / 2**20:.0f} MiB; largest relative difference to predict {difference:.1e})")


def check(model, folder: Path, argmax: bool) -> float:
    """The largest relative difference to `predict`, of the export loaded in a process that has only TensorFlow.

    Raises `UserError` above the tolerance.
    """
    stride = model.get_layer("normalization").output_stride
    images = np.random.default_rng(0).integers(0, 256, (2, 4 * stride, 6 * stride, 3), dtype=np.uint8)
    expected = model.predict(images, verbose=0)
    with tempfile.TemporaryDirectory() as scratch:
        given, returned = Path(scratch) / "images.npy", Path(scratch) / "outputs.npz"
        np.save(given, images)
        subprocess.run([sys.executable, "-c", _RUN_SAVED_MODEL, folder, given, returned], check=True)
        outputs = np.load(returned)
        if argmax:
            agreement = np.mean(outputs["semseg"] == expected["semseg"].argmax(-1))
            if agreement < 0.999:
                raise UserError(f"{folder}: only {agreement:.2%} of the class ids agree with predict; not exported")
        names = ["depth"] if argmax else ["semseg", "depth"]
        difference = max(np.abs(outputs[n] - expected[n]).max() / np.abs(expected[n]).max() for n in names)
    if not difference <= TOLERANCE:
        raise UserError(f"{folder}: differs from predict by {difference:.1e}, more than {TOLERANCE}; not exported")
    return float(difference)


_RUN_SAVED_MODEL = """
import sys
import numpy as np
import tensorflow as tf
run = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
outputs = run(image=tf.constant(np.load(sys.argv[2])))
np.savez(sys.argv[3], **{name: value.numpy() for name, value in outputs.items()})
"""


if __name__ == "__main__":
    cli.launch(main, takes="a run")
