"""Running one function over many jobs on all cores, in order, with bounded memory."""

import collections
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import Any

from mtl_keras import backend

# Jobs under way for each worker: enough to keep it busy while the main thread writes, few enough to stay small.
_JOBS_AHEAD = 4
_hiding = threading.RLock()


def ordered_map(function: Callable[[Any], Any], jobs: Iterable[Any], *, processes: bool) -> Iterator[Any]:
    """Yields `function(job)` for each job, in the order of the jobs.

    Args:
        function: picklable where `processes` is set.
        jobs: what to run it on.
        processes: worker processes, for Python-bound work; else threads, for work that releases the GIL (Pillow).
    """
    workers = backend.cores()
    executor = _process_pool(workers) if processes else futures.ThreadPoolExecutor(workers)
    pending: collections.deque[futures.Future] = collections.deque()
    try:
        for job in jobs:
            with hidden_main_module() if processes else contextlib.nullcontext():
                pending.append(executor.submit(function, job))
            if len(pending) >= _JOBS_AHEAD * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _process_pool(workers: int) -> futures.ProcessPoolExecutor:
    # Forking is not safe beside the threads of TensorFlow and JAX.
    context = multiprocessing.get_context("spawn")
    return futures.ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker)


def start_worker(*_: Any) -> None:
    """Makes a worker process leave Ctrl-C to its parent, and end with it even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


@contextlib.contextmanager
def hidden_main_module() -> Iterator[None]:
    """Keeps spawned workers from running the user's script again: the functions they need are importable without it."""
    # One at a time, or what one hides the other would take for what is to be put back.
    with _hiding:
        main = sys.modules["__main__"]
        present = {"__spec__", "__file__"} & set(main.__dict__)
        hidden: dict[str, Any] = {name: main.__dict__.pop(name) for name in present}
        main.__spec__ = None
        try:
            yield
        finally:
            main.__dict__.update(hidden)
