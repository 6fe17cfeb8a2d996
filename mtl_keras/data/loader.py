"""Batches for Keras: in an order that follows from the seed and the step alone, and ready before they are asked for."""

import collections
import contextlib
import gc
import itertools
import logging
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import grain
import keras
import numpy as np
from absl import flags

from mtl_keras import backend
from mtl_keras.data.cache import NOT_SHARED, open_cache, usual_cache
from mtl_keras.data.dataset import Dataset
from mtl_keras.data.pipeline import Collate, Fetch, IndexSource, index_order, process_batches
from mtl_keras.data.pools import hidden_main_module, start_worker
from mtl_keras.data.views import View
from mtl_keras.errors import UserError

logger = logging.getLogger(__name__)

Batch = tuple[np.ndarray, dict[str, np.ndarray]]

# Keras draws up to two batches to learn their shapes before it starts over.
_REMEMBERED = 3


class Loader(backend.ReadyBatches):
    """Reads batches ahead of a Keras training, evaluation or prediction.

    A batch is `image` uint8 (batch, height, width, 3) and the labels `semseg` uint8 (batch, height, width), 255 =
    ignore, and `depth` float32 metres (batch, height, width, 1), 0 = invalid. What it holds is a function of the seed
    and the absolute step, whatever the number of workers, the backend, and whether a run was resumed.

    A training's batches go on without end, and `loader[step]` is that of an absolute step. `MultiTaskModel.fit` knows
    that `len(loader)` of them make an epoch; another model's is given `steps_per_epoch`, and `shuffle=False`. An
    evaluation's end after one pass, and all passes are the same.

    Args:
        dataset: what to read.
        batch_size: samples a step, for this process.
        view: `TrainView` or `EvalView`.
        seed: of the order and of the views' randomness.
        shuffle: a new random order in every epoch.
        drop_remainder: for training: leave out what does not fill a step, and begin again after the last one.
            Otherwise there is one pass, and its last batch is filled up with all-ignore samples, which cost nothing
            in masked losses and metrics, so that all batches have one shape.
        cache: "none", "ram" or "disk" (see `open_cache`); by default "ram", or "disk" where there are worker processes,
            `process_count` is more than 1 or `cache_dir` is given. With "ram" each of several processes holds all
            samples, even those on one machine, which may be more than its memory.
        cache_dir: where the disk cache lies; by default beside the prepared data.
        workers: worker processes; 0 prepares batches in threads, which is fastest for plain crops.
        threads: threads that prepare batches, in each process; by default one a core, at most 8.
        prefetch: batches held ready.
        process_index: this process among those that train together.
        process_count: how many they are; each gets its share of every step.

    `image_size` is the (height, width) of all images, each None where they may differ. `start_step` is the absolute
    step that `loader[0]` is (see `go_to`). `wait_seconds` adds up how long steps have waited for data. TensorFlow reads
    while a step runs, so there it is more than what training lost.

    Raises:
        UserError: fewer samples than a step takes, images smaller than the crop, a cache that does not fit or is of no
            use with the other arguments, or a number that makes no sense.

    Example:
        >>> train = Loader(load("streets", "train"), 8, TrainView((128, 128)), seed=1)
        >>> model.fit(train, epochs=4)
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        view: View,
        *,
        seed: int = 0,
        shuffle: bool = True,
        drop_remainder: bool = True,
        cache: str | None = None,
        cache_dir: str | Path | None = None,
        workers: int = 0,
        threads: int | None = None,
        prefetch: int = 8,
        process_index: int = 0,
        process_count: int = 1,
    ):
        # Keras' own workers stay off: the batches are ready when it asks.
        super().__init__(workers=1)
        self.dataset = dataset
        self.batch_size = batch_size
        self.view = view
        self.worker_processes = workers
        self.wait_seconds = 0.0
        _check_numbers(1, batch_size=batch_size)
        _check_numbers(0, seed=seed, workers=workers, threads=threads or 0, prefetch=prefetch)
        if not 0 <= process_index < process_count:
            raise UserError(f"process {process_index} of {process_count}: expected 0 to {process_count - 1}")
        cache = _kind_of_cache(cache, cache_dir, workers, process_count)
        source = IndexSource(len(dataset), batch_size * process_count, drop_remainder)
        self.steps_per_epoch = len(source) // process_count // batch_size
        if not self.steps_per_epoch:
            raise UserError(
                f"{dataset.full_name} {dataset.split} has {len(dataset)} samples, fewer than one step of "
                f"{batch_size * process_count}: use a smaller batch size"
            )
        sizes = _view_sizes(dataset, view, batch_size * process_count)
        size = view.output_size(*dataset[0]["image"].shape[:2])
        self.image_size = size if len(sizes) == 1 else (None, None)
        self.num_classes = dataset.spec.num_classes
        samples = open_cache(dataset, cache, folder=cache_dir)
        order = index_order(source, seed=seed, shuffle=shuffle)
        share = (batch_size, process_index, process_count, drop_remainder)
        self._ids = process_batches(order, *share, list)
        # The view's randomness is drawn by position in the common order, so that processes do not draw alike.
        views = order.random_map(Fetch(samples, view))
        collate = Collate(dataset.depth_encoding, dataset.spec.depth_range, size)
        self._batches = process_batches(views, *share, collate)
        self._threads = threads or min(backend.cores(), 8)
        self._prefetch = prefetch
        self._lock = threading.Lock()
        self._recent: collections.deque[tuple[int, Batch]] = collections.deque(maxlen=_REMEMBERED)
        # The running iterator, if any, in a list of its own so that it can be ended without the loader.
        self._running: list[Any] = []
        self._taken = self._next_step = 0
        weakref.finalize(self, _close, self._running, workers)
        self._endless = drop_remainder
        self.start_step = 0

    def go_to(self, step: int) -> None:
        """Makes `loader[0]` the batch of an absolute step: where the next `fit` begins.

        Raises:
            UserError: a step that makes no sense.
        """
        _check_numbers(0, step=step)
        self.start_step = step

    def __len__(self) -> int:
        """Steps of an epoch."""
        return self.steps_per_epoch

    @property
    def num_batches(self) -> int | None:
        """How many batches Keras may ask for: as many as it likes in training."""
        return None if self._endless else self.steps_per_epoch

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step, counted from `start_step`."""
        if not 0 <= step < (self.num_batches or step + 1):
            raise IndexError(f"step {step} of {self.num_batches}")
        begin = time.perf_counter()
        with self._lock:
            batch = self._at(self.start_step + step)
        self.wait_seconds += time.perf_counter() - begin
        return batch

    def ids(self, step: int) -> list[str]:
        """The ids of a step's samples, in their order; padding has none."""
        return [self.dataset.id(index) for index in self._ids[self.start_step + step] if index >= 0]

    def close(self) -> None:
        """Stops the threads and worker processes; the next batch that is asked for starts them again."""
        with self._lock:
            _close(self._running, self.worker_processes)
            self._recent.clear()

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def _at(self, step: int) -> Batch:
        if not self._endless:
            step %= self.steps_per_epoch
        for remembered, batch in self._recent:
            if remembered == step:
                return batch
        try:
            batch = self._read(step)
        except BaseException:
            # What runs is past this step, and who asks for it again is to get its batch.
            _close(self._running, self.worker_processes)
            raise
        if self.worker_processes:
            # Grain's shared memory must not outlive Grain, and Keras may hold a batch until the program ends.
            batch = keras.tree.map_structure(np.array, batch)
        self._next_step = step + 1
        if self._next_step == self.num_batches:
            self._next_step = 0
            if not self.worker_processes:
                _close(self._running, 0)
        self._recent.append((step, batch))
        return batch

    def _read(self, step: int) -> Batch:
        if not self._running or step != self._next_step:
            self._start(step)
        try:
            return self._next()
        except RuntimeError as error:
            if "terminated unexpectedly" not in str(error):
                raise
            # The order follows from the step, so nothing is lost with a worker; a second time in a row is no accident.
            logger.warning("a worker process of the loader was killed; the batches from step %d are read again", step)
            self._start(step)
            return self._next()

    def _next(self) -> Batch:
        # Grain starts one worker process after the other, with the first batch of each.
        starting = self._taken < self.worker_processes
        with hidden_main_module() if starting else contextlib.nullcontext():
            batch = next(self._running[0])
        self._taken += 1
        return batch

    def _start(self, step: int) -> None:
        _close(self._running, self.worker_processes)
        reading = grain.ReadOptions(num_threads=self._threads, prefetch_buffer_size=self._prefetch)
        # Threads read no batch past a pass; worker processes, which take seconds to start, go on with the next one.
        stop = None if self.worker_processes else self.num_batches
        batches = self._batches.slice(slice(step, stop)).to_iter_dataset(reading)
        if self.worker_processes:
            _let_grain_read_its_flags()
            ahead = max(1, self._prefetch // self.worker_processes)
            options = grain.MultiprocessingOptions(num_workers=self.worker_processes, per_worker_buffer_size=ahead)
            batches = batches.mp_prefetch(options, worker_init_fn=start_worker)
        self._running.append(iter(batches))
        self._taken = 0


def _let_grain_read_its_flags() -> None:
    """Grain reads absl flags to start workers, which fails in a program that parses none."""
    for name in flags.FLAGS:
        if name.startswith("grain_") and not flags.FLAGS.is_parsed():
            flags.FLAGS[name].present = True


def _close(running: list[Any], processes: int) -> None:
    """Ends the iterator of a list and empties the list."""
    while running:
        running.pop().close()
    if processes:
        # Grain's iterators refer to each other, and complain if they are taken apart at exit.
        gc.collect()


def _check_numbers(least: int, **numbers: Any) -> None:
    for name, number in numbers.items():
        if not isinstance(number, int | np.integer) or number < least:
            raise UserError(f"{name} {number}: expected a whole number, {least} or more")


def _view_sizes(dataset: Dataset, view: View, batch_size: int) -> dict[tuple[int, int], str]:
    """For each size of what the view cuts, the id of an image, before any is read.

    Refuses images that it cannot cut, and those that make no common batch.
    """
    ids: dict[tuple[int, int], str] = {}
    for size, id in dataset.sizes.items():
        try:
            ids.setdefault(view.output_size(*size), id)
        except UserError as error:
            raise UserError(f"{dataset.full_name} {dataset.split}, {id}: {error}") from None
    if batch_size > 1 and len(ids) > 1:
        some = " and ".join(f"{height}×{width} of {id}" for (height, width), id in itertools.islice(ids.items(), 2))
        raise UserError(
            f"{dataset.full_name} {dataset.split} has images of {len(ids)} sizes, such as {some}, which make no batch: "
            "use a batch size of 1, on one device (in training, --val_batch_size=1)"
        )
    return ids


def _kind_of_cache(cache: str | None, cache_dir: str | Path | None, workers: int, process_count: int) -> str:
    """The kind that was asked for, or the one that suits; refuses what cannot be."""
    if cache is None:
        cache = "disk" if cache_dir else usual_cache(workers, process_count)
    if workers and cache == "ram":
        raise UserError(NOT_SHARED)
    if cache_dir and cache != "disk":
        raise UserError(
            f'cache_dir {cache_dir} is of use with cache "disk" alone: add --cache=disk, or leave cache_dir out'
        )
    return cache
