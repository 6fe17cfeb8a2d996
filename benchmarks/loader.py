"""Samples per second of the loader and of a plain torch DataLoader, of the same samples and the same crops.

    python -m benchmarks.loader

The DataLoader reads a Miniscapes folder's JPEG and PNG files, decodes them with Pillow, crops, flips and stacks. Ours
reads the same encoded images from the ArrayRecord shards that they were prepared into. Without a cache it decodes them
each time, as the DataLoader does; into a cold one it decodes and keeps them, as in a run's first epoch; out of a warm
one, in memory or in a file read through mmap, it cuts decoded samples, as in all later epochs. All files have been read
before and come from the system's page cache, if they fit in it. Both have the same number of workers and make the same
batches, which is checked. Ways take turns within one run, so that a noisy machine disturbs all alike.

Finally each step is made to last as long as on an accelerator of a given pace, while this process only sleeps, and the
share of time that steps wait for data is measured.
"""

import gc
import math
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from absl import flags
from PIL import Image

from benchmarks import contest
from mtl_keras import data
from mtl_keras.data.depth_encoding import decode_depth, encode_inverse_depth
from mtl_keras.data.pipeline import Fetch, IndexSource, index_order
from trainers import cli

FLAGS = flags.FLAGS
flags.DEFINE_string("data_dir", None, "Miniscapes folder to read; by default one is rendered")
flags.DEFINE_integer("samples", 256, "samples of the rendered folder", lower_bound=8)
flags.DEFINE_integer("scenes", 8, "different scenes among them; the others are copies", lower_bound=1)
flags.DEFINE_integer("height", 360, "height of the rendered images", lower_bound=1)
flags.DEFINE_integer("width", 720, "width of the rendered images", lower_bound=1)
flags.DEFINE_integer("crop", 256, "side of the crops", lower_bound=1)
flags.DEFINE_integer("batch_size", 8, "samples a batch", lower_bound=1)
flags.DEFINE_integer(
    "workers", os.cpu_count(), "worker processes of the DataLoader, and threads of the loader", lower_bound=0
)
flags.DEFINE_integer("repeats", 5, "epochs of each way", lower_bound=2)
PACES = ["1067", "2133", "3200"]  # the report's 320,000 crops in 5 minutes; twice, three times that
flags.DEFINE_list("paces", PACES, "crops a second of the accelerators whose waiting is measured")
flags.register_validator(
    "paces",
    lambda paces: paces and all(pace.isdecimal() and int(pace) > 0 for pace in paces),
    "give numbers from 1 on, such as 1067,2133",
)
flags.DEFINE_integer("paced_batch_size", 64, "samples a batch of theirs", lower_bound=1)
flags.DEFINE_float("seconds", 10.0, "how long each of these paces is kept up", lower_bound=0.1)
flags.DEFINE_string("out", str(contest.RESULTS), "folder of the result")

SEED = 0
BASELINE = "torch DataLoader, no cache"
WARM = {"ours, warm cache (ram)": "ram", "ours, warm cache (disk)": "disk"}


class FileSamples(torch.utils.data.Dataset):
    """What many write by hand: decode with Pillow, crop, flip."""

    def __init__(self, folder: Path, crops: list[tuple[int, int, int, bool]], size: int):
        self.folder, self.crops, self.size = folder, crops, size

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, position: int):
        index, top, left, flipped = self.crops[position]
        views = []
        for kind, suffix in (("rgb", "jpg"), ("semseg", "png"), ("depth", "png")):
            with Image.open(self.folder / kind / f"{index}.{suffix}") as image:
                view = np.asarray(image)[top : top + self.size, left : left + self.size]
            views.append(view[:, ::-1] if flipped else view)
        image, semseg, codes = (np.ascontiguousarray(view) for view in views)
        return image, semseg, decode_depth(codes, "inverse")[..., None]


class Coordinates:
    """Samples whose pixels say where they are, to learn which crops a view draws."""

    def __init__(self, height: int, width: int):
        y, x = np.mgrid[:height, :width].astype(np.int32)
        self.sample = {"image": np.stack([y, x], -1), "semseg": y, "depth_codes": y, "depth_scale": 1.0}

    def __getitem__(self, index: int):
        return self.sample | {"index": index}


def crops_of_epochs(dataset: data.Dataset, view: data.TrainView, count: int) -> list[tuple[int, int, int, bool]]:
    """Sample, top, left and flip of the first `count` positions of the loader's order."""
    order = index_order(IndexSource(len(dataset), FLAGS.batch_size, True), seed=SEED, shuffle=True)
    seen = order.random_map(Fetch(Coordinates(*dataset[0]["semseg"].shape), view))
    crops = []
    for position in range(count):
        cut = seen[position]
        left, right = cut["image"][0, 0, 1], cut["image"][0, -1, 1]
        crops.append((cut["index"], int(cut["image"][0, 0, 0]), int(min(left, right)), bool(left > right)))
    return crops


def render_folder(root: Path) -> None:
    """Writes rendered scenes in Miniscapes' layout."""
    from mtl_keras.data.street_scenes import render_scene

    folder = root / "train"
    for kind in ("rgb", "semseg", "depth"):
        (folder / kind).mkdir(parents=True)
    for scene_index in range(min(FLAGS.scenes, FLAGS.samples)):
        scene = render_scene(scene_index, FLAGS.height, FLAGS.width)
        for i in range(scene_index, FLAGS.samples, FLAGS.scenes):
            Image.fromarray(scene.image).save(folder / "rgb" / f"{i}.jpg", quality=90)
            Image.fromarray(scene.semseg).save(folder / "semseg" / f"{i}.png")
            Image.fromarray(encode_inverse_depth(scene.depth)).save(folder / "depth" / f"{i}.png")


def torch_batches(loader: torch.utils.data.DataLoader) -> Iterator[tuple[np.ndarray, ...]]:
    for image, semseg, depth in loader:
        yield image.numpy(), semseg.numpy(), depth.numpy()


def loader_batches(loader: data.Loader) -> Iterator[tuple[np.ndarray, ...]]:
    loader.on_epoch_begin()
    for step in range(len(loader)):
        image, labels = loader[step]
        yield image, labels["semseg"], labels["depth"]
    loader.on_epoch_end()


def samples_per_second(batches: Iterable[tuple[np.ndarray, ...]]) -> float:
    """Reads an epoch; every batch is touched, as a copy to a device would."""
    begin, samples, total = time.perf_counter(), 0, 0
    for batch in batches:
        samples += len(batch[0])
        total += sum(int(array[0, 0, 0].sum()) for array in batch)
    return samples / (time.perf_counter() - begin)


def check_same(first: Iterable[tuple[np.ndarray, ...]], second: Iterable[tuple[np.ndarray, ...]]) -> None:
    """Stops the benchmark if the two do not read the same batches."""
    for ours, theirs in zip(first, second, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


def resident_mib() -> float:
    """Memory of this process that is not a mapped file."""
    memory = psutil.Process().memory_full_info()
    return memory.uss / 2**20


def share_of_waiting(loader: data.Loader, pace: int) -> float:
    """The share of a training's time that its steps wait for data, where one takes as long as its crops at a pace."""
    step_seconds = loader.batch_size / pace
    # A run fills its cache, and waits for its first batch, once.
    for step in range(len(loader) + 1):
        loader[step]
    begin, waited = time.perf_counter(), loader.wait_seconds
    for step in range(len(loader) + 1, len(loader) + 1 + math.ceil(FLAGS.seconds / step_seconds)):
        time.sleep(step_seconds)
        loader[step]
    return (loader.wait_seconds - waited) / (time.perf_counter() - begin)


def waiting(dataset: data.Dataset, cache_dir: Path) -> list[dict[str, Any]]:
    """Measures and prints the share of waiting at every pace."""
    print(f"\n{'way':<32}{'crops/s':>10}{'waiting':>9}")
    rows = []
    for way, cache in WARM.items():
        with our_loader(dataset, cache, cache_dir, FLAGS.paced_batch_size) as loader:
            for pace in map(int, FLAGS.paces):
                rows.append({"name": way, "pace": pace, "share": share_of_waiting(loader, pace)})
                print(f"{way:<32}{pace:>10}{rows[-1]['share']:>9.2%}")
    return rows


def report(rates: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Prints medians, spreads and ratios, and returns them."""
    baseline = statistics.median(rates[BASELINE])
    rows = []
    print(f"\n{'way':<32}{'samples/s':>10}{'lowest':>9}{'highest':>9}{'ratio':>8}")
    for way, values in rates.items():
        median = statistics.median(values)
        rows.append({"name": way, "median": median, "lowest": min(values), "highest": max(values)})
        rows[-1]["ratio"] = median / baseline
        print(f"{way:<32}{median:>10.0f}{min(values):>9.0f}{max(values):>9.0f}{median / baseline:>8.2f}")
    return rows


def our_loader(dataset: data.Dataset, cache: str, cache_dir: Path, batch_size: int) -> data.Loader:
    where = cache_dir if cache == "disk" else None
    threads = max(FLAGS.workers, 1)
    return data.Loader(dataset, batch_size, view(), cache=cache, cache_dir=where, threads=threads, seed=SEED)


def view() -> data.TrainView:
    return data.TrainView((FLAGS.crop, FLAGS.crop), horizontal_flip=True)


def measure(dataset: data.Dataset, source: Path, cache_dir: Path) -> dict[str, list[float]]:
    """Runs all ways in turns."""
    steps = len(dataset) // FLAGS.batch_size
    epoch = crops_of_epochs(dataset, view(), steps * FLAGS.batch_size)
    theirs = torch.utils.data.DataLoader(
        FileSamples(source / "train", epoch, FLAGS.crop),
        FLAGS.batch_size,
        num_workers=FLAGS.workers,
        persistent_workers=FLAGS.workers > 0,
    )

    def ours(cache: str) -> data.Loader:
        return our_loader(dataset, cache, cache_dir, FLAGS.batch_size)

    warm = {way: ours(cache) for way, cache in WARM.items()}
    for loader in warm.values():
        check_same(loader_batches(loader), torch_batches(theirs))
    ways: dict[str, Callable[[], Iterable]] = {BASELINE: lambda: torch_batches(theirs)}
    ways["ours, no cache"] = lambda: loader_batches(ours("none"))
    ways["ours, cold cache (ram)"] = lambda: loader_batches(ours("ram"))
    ways |= {way: lambda loader=loader: loader_batches(loader) for way, loader in warm.items()}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(FLAGS.repeats):
        for way, batches in ways.items():
            gc.collect()  # the caches of earlier loaders
            rates[way].append(samples_per_second(batches()))
    memory = []
    for _ in range(5):
        samples_per_second(loader_batches(warm["ours, warm cache (ram)"]))
        memory.append(resident_mib())
    print("\nmemory of this process after each of five further epochs, MiB:", *(f"{value:.1f}" for value in memory))
    for loader in warm.values():
        loader.close()
    return rates


def main(argv: list[str]) -> None:
    del argv
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        source = Path(FLAGS.data_dir) if FLAGS.data_dir else root / "source"
        if not FLAGS.data_dir:
            render_folder(source)
        dataset = data.load("miniscapes", "train", data_dir=source, prepared_dir=root / "prepared")
        height, width = dataset[0]["semseg"].shape
        print(
            f"{len(dataset)} samples of {height}×{width}, crops of {FLAGS.crop}×{FLAGS.crop}, "
            f"batch {FLAGS.batch_size}, {FLAGS.workers} workers, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
        )
        rows = report(measure(dataset, source, root / "cache"))
        waits = waiting(dataset, root / "cache")
        what = f"{FLAGS.crop}×{FLAGS.crop} of {height}×{width}, batch {FLAGS.batch_size}, {FLAGS.workers} workers"
        contest.keep(
            "loader",
            {"settings": {"what": what}, "rows": rows, "paced_batch": FLAGS.paced_batch_size, "waiting": waits},
        )
        print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    cli.launch(main)
