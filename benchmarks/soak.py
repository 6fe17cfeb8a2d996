"""Memory and file handles of a long run and of many predictions: both must stay flat.

    python -m benchmarks.soak --epochs 500 --predictions 5000

The run is `benchmarks.tiny_run`, with checkpoints, table, pictures and TensorBoard at each epoch; predictions are of
images of four sizes, plain, mirrored and through windows. Both are of a tiny network (`tiny_run.make_networks_tiny`):
what grows would show, what a real network takes does not. The exit status is 1 if anything grew.
"""

import dataclasses
import gc
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from absl import flags

from benchmarks import tiny_run
from trainers import cli

# Between the medians of a third and of the last quarter: what allocators keep, and nothing that goes on.
MOST_GROWN = 24 * 2**20
MOST_HANDLES = 3


@dataclasses.dataclass
class Usage:
    """Memory and file handles of a process, sampled while it works.

    Args:
        what: what it did.
        bytes: resident memory at each sample.
        handles: open files and sockets at each sample.
    """

    what: str
    bytes: list[int] = dataclasses.field(default_factory=list)
    handles: list[int] = dataclasses.field(default_factory=list)

    def sample(self, process: psutil.Process) -> None:
        memory, handles = process.memory_info().rss, process.num_fds()
        self.bytes.append(memory)
        self.handles.append(handles)

    @property
    def grown_bytes(self) -> float:
        """How much more the last quarter of the samples took than those around a third of the way."""
        return self._grown(self.bytes)

    @property
    def grown_handles(self) -> float:
        return self._grown(self.handles)

    def _grown(self, values: list[int]) -> float:
        third, quarter = len(values) // 3, max(1, len(values) // 4)
        return float(np.median(values[-quarter:]) - np.median(values[third : third + quarter]))

    @property
    def flat(self) -> bool:
        return self.grown_bytes <= MOST_GROWN and self.grown_handles <= MOST_HANDLES

    def __str__(self) -> str:
        third = len(self.bytes) // 3
        return (
            f"{self.what}: {self.bytes[third] / 2**20:.0f} MiB and {self.handles[third]} handles at a third, "
            f"{self.bytes[-1] / 2**20:.0f} MiB and {self.handles[-1]} at the end; memory grew by "
            f"{self.grown_bytes / 2**20:+.1f} MiB, handles by {self.grown_handles:+.0f}: "
            f"{'flat' if self.flat else 'GROWS'}"
        )


def train(epochs: int, folder: Path) -> Usage:
    """Trains a tiny run for many epochs, and watches its process."""
    tiny_run.write_dataset(folder / "source")
    steps = folder / "steps.txt"
    command = tiny_run.command(*tiny_run.flags(folder), f"--epochs={epochs}", f"--runs_dir={folder / 'runs'}")
    environment = tiny_run.environment(**{tiny_run.STEPS_FILE: str(steps)})
    usage = Usage(f"{epochs} epochs of {tiny_run.STEPS_PER_EPOCH} steps, a tiny network")
    with open(folder / "output.txt", "w", encoding="utf-8") as output:
        process = subprocess.Popen(command, cwd=tiny_run.ROOT, env=environment, stdout=output, stderr=output)
    watched, last = psutil.Process(process.pid), epochs * tiny_run.STEPS_PER_EPOCH
    while process.poll() is None:
        # What comes before the first step, and after the last one, is another kind of work.
        if steps.exists() and (lines := steps.read_text(encoding="utf-8").splitlines()):
            if int(lines[-1].split()[0]) >= last - 1:
                break
            usage.sample(watched)
        time.sleep(0.1)
    if process.wait():
        raise RuntimeError((folder / "output.txt").read_text(encoding="utf-8")[-2000:])
    return usage


def predict(count: int) -> Usage:
    """Predicts many images in this process."""
    tiny_run.make_networks_tiny()
    import zoo

    model = zoo.build("joint", encoder="resnet18", aspp=False, skip=False)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*side, 3), np.uint8) for side in ((33, 47), (64, 96), (96, 64), (120, 200))]
    usage, watched = Usage(f"{count} predictions of a tiny network"), psutil.Process()
    for number in range(count):
        image = images[number % len(images)]
        options = ({}, {"flip": True}, {"window": (48, 48), "confidence": True})[number // len(images) % 3]
        model.predict_images(image, **options)
        if number % 10 == 0:
            gc.collect()
            usage.sample(watched)
    return usage


def main(argv: list[str]) -> int:
    del argv
    usages = []
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        for usage in (train(flags.FLAGS.epochs, Path(folder)), predict(flags.FLAGS.predictions)):
            print(usage, flush=True)
            usages.append(usage)
    return 0 if all(usage.flat for usage in usages) else 1


if __name__ == "__main__":
    flags.DEFINE_integer("epochs", 500, "epochs of the run", lower_bound=12)
    flags.DEFINE_integer("predictions", 5000, "how many images are predicted", lower_bound=120)
    cli.launch(main)
