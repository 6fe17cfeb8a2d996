"""Keeps TensorFlow's start-up chatter off the terminal, and TensorFlow itself off another backend's GPUs.

Its C++ parts log to file descriptor 2 before any setting of theirs is read, and would stand above the first line that
matters. What it says is thrown away only if the import succeeds.
"""

import contextlib
import importlib.abc
import importlib.util
import os
import sys
import tempfile
import types
from collections.abc import Iterator
from typing import cast


class _QuietTensorFlow(importlib.abc.MetaPathFinder):
    def __init__(self):
        self._asking = False

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "tensorflow" or self._asking:
            return None
        self._asking = True
        try:
            spec = importlib.util.find_spec("tensorflow")
        finally:
            self._asking = False
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def quietly(module) -> None:
            with _chatter_dropped():
                execute(module)
                # The search for devices has its own to say.
                module.config.list_physical_devices()
                if os.environ.get("KERAS_BACKEND") != "tensorflow":
                    # Imported beside another backend, it would take all memory of the GPUs.
                    module.config.set_visible_devices([], "GPU")

        spec.loader.exec_module = quietly  # type: ignore[method-assign] # of this loader alone
        return spec


@contextlib.contextmanager
def _chatter_dropped() -> Iterator[None]:
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:
            said.seek(0)
            os.write(terminal, said.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


@contextlib.contextmanager
def without_tensorflow() -> Iterator[None]:
    """Has TensorFlow be as if not installed, unless it is loaded: Keras imports it to save a model, for no use."""
    modules = cast("dict[str, types.ModuleType | None]", sys.modules)  # a None there bars an import
    hidden = modules.setdefault("tensorflow", None) is None
    try:
        yield
    finally:
        if hidden:
            del sys.modules["tensorflow"]


def install() -> None:
    """Has TensorFlow, if anything imports it, start without a word, and without GPUs unless it is the backend."""
    # Its notes from later on; warnings stay.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    if "tensorflow" not in sys.modules:
        sys.meta_path.insert(0, _QuietTensorFlow())
