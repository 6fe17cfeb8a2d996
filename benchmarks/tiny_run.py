"""A whole training run in seconds: `python -m benchmarks.tiny_run FLAGS` is `trainers.fit` on a tiny encoder.

Only the network is another one; data, saves, callbacks, signals and files are those of every run. With
`MTL_KERAS_STEPS` set to a path, each step's number and time are added to that file as soon as the step is done; with
`MTL_KERAS_SLOW_DISK` set, each file takes so many seconds to reach the disk.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
STEPS_FILE = "MTL_KERAS_STEPS"
SLOW_DISK = "MTL_KERAS_SLOW_DISK"
TRAIN_IMAGES = 15
BATCH_SIZE = 3
STEPS_PER_EPOCH = TRAIN_IMAGES // BATCH_SIZE


def write_dataset(root: Path, size: tuple[int, int] = (40, 64)) -> None:
    """A Miniscapes folder of random squares: 15 training images, 3 to validate with and 2 without labels."""
    rng = np.random.default_rng(0)
    squares = (size[0] // 8, size[1] // 8)
    for split, count in {"train": TRAIN_IMAGES, "val": 3, "test": 2}.items():
        kinds = ("rgb",) if split == "test" else ("rgb", "semseg", "depth")
        for kind in kinds:
            (root / split / kind).mkdir(parents=True)
            for index in range(count):
                shape = (*squares, 3) if kind == "rgb" else squares
                values = rng.integers(0, 19 if kind == "semseg" else 256, shape, np.uint8)
                picture = Image.fromarray(values.repeat(8, axis=0).repeat(8, axis=1))
                picture.save(root / split / kind / f"{index}.{'jpg' if kind == 'rgb' else 'png'}")


def flags(data: Path) -> list[str]:
    """Flags of a run on a folder that `write_dataset` filled, at `<data>/source`."""
    return [
        "--dataset=miniscapes",
        f"--data_dir={data / 'source'}",
        f"--prepared_dir={data / 'prepared'}",
        "--arch=joint",
        "--encoder=resnet18",
        "--noaspp",
        "--noskip",
        "--crop=32,32",
        "--horizontal_flip",
        f"--batch_size={BATCH_SIZE}",
    ]


def environment(**more: str) -> dict[str, str]:
    """The variables of a process that compiles once and then no more."""
    cache = {
        "JAX_COMPILATION_CACHE_DIR": os.path.join(tempfile.gettempdir(), "mtl_keras_tiny_xla"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
    }
    return {"KERAS_BACKEND": "jax", **cache, **os.environ, **more}


def command(*arguments: str) -> list[str]:
    """What starts this module in a process of its own, from the repository's root."""
    return [sys.executable, "-m", "benchmarks.tiny_run", *arguments]


def make_networks_tiny() -> None:
    """From here on the zoo builds every model on a tiny encoder, whatever its name."""
    from keras import layers

    import zoo.builder
    from mtl_keras.layers import batch_norm, block

    @block
    def encoder(x, *, variant: str, dilation: tuple[bool, bool, bool]):
        del variant
        x = shallow = _conv(layers, batch_norm, x, 4, "layer1")
        x = _conv(layers, batch_norm, x, 8 // 2 ** sum(dilation), "layer4")
        return {"layer1": shallow, "layer4": x}

    zoo.builder.resnet = encoder


def _conv(layers, batch_norm, x, strides: int, name: str):
    x = layers.Conv2D(16, 5, strides=strides, padding="same", use_bias=False, name=f"{name}_conv")(x)
    return layers.ReLU(name=f"{name}_relu")(batch_norm(x, name=f"{name}_norm"))


def tell_steps(path: str) -> None:
    """Adds a line to a file after each training step: its number, and the monotonic clock in seconds."""
    from mtl_keras.callbacks import Clock

    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    before = Clock.on_train_batch_end

    def on_train_batch_end(clock, batch, logs=None):
        before(clock, batch, logs)
        os.write(log, f"{clock.step} {time.monotonic():.6f}\n".encode())

    Clock.on_train_batch_end = on_train_batch_end


def slow_down_disk(seconds: float) -> None:
    """Makes a tiny state take as long to be written as a large one: a file lies there unfinished for a while."""
    from mtl_keras import files

    flush = files._flush_to_disk

    def flush_slowly(path: Path) -> None:
        time.sleep(seconds)
        flush(path)

    files._flush_to_disk = flush_slowly


def main(arguments: list[str]) -> None:
    from trainers import fit

    make_networks_tiny()
    if path := os.environ.get(STEPS_FILE):
        tell_steps(path)
    if seconds := os.environ.get(SLOW_DISK):
        slow_down_disk(float(seconds))
    fit.main(arguments)


if __name__ == "__main__":
    from trainers import cli, fit  # noqa: F401 - defines the flags

    cli.launch(main)
