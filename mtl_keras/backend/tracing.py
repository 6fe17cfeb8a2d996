"""Each backend's own profiler."""

import importlib
from collections.abc import Callable
from pathlib import Path

import keras


def start_trace(folder: Path) -> Callable[[], None]:
    """Starts recording what the host and the devices do, for TensorBoard or Perfetto; returns what stops it."""
    folder.mkdir(parents=True, exist_ok=True)
    if keras.backend.backend() == "jax":
        profiler = importlib.import_module("jax").profiler
        profiler.start_trace(str(folder))
        return profiler.stop_trace
    if keras.backend.backend() == "tensorflow":
        profiler = importlib.import_module("tensorflow").profiler.experimental
        profiler.start(str(folder))
        return profiler.stop
    profiler = importlib.import_module("torch.profiler")
    recording = profiler.profile(on_trace_ready=profiler.tensorboard_trace_handler(str(folder)))
    recording.start()
    return recording.stop
