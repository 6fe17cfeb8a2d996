"""The commands, each `python -m trainers.NAME`."""

import importlib.util
import os
import sys

from trainers import quiet
from trainers.allocator import keep_freed_memory
from trainers.xla import leave_out_ynnpack

# Of the backends that requirements.txt installs, JAX starts first once its step was compiled (BUILD_NOTES.md). (Keras
# writes a keras.json that names TensorFlow by itself, so that file is no choice of the user's.)
os.environ.setdefault("KERAS_BACKEND", "jax")
# A step compiled once is read back the next time: a second run's first step comes in a third of the time.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(os.path.expanduser("~"), ".cache", "mtl_keras", "xla"))
_BACKENDS = ("jax", "tensorflow", "torch")


def _say_interrupted(kind, error, traceback) -> None:
    """Ctrl-C while a command still imports its libraries, a matter of seconds, gets the line that it gets later."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


def _check_backend(name: str) -> None:
    """Keras would end in a traceback, at the first import of it."""
    if name not in _BACKENDS:
        mend = f"unknown; use {', '.join(_BACKENDS[:-1])} or {_BACKENDS[-1]}"
    elif importlib.util.find_spec(name) is None:
        mend = f"not installed; run: pip install {name}, or use another backend"
    else:
        return
    print(f"error: KERAS_BACKEND: '{name}' is {mend}", file=sys.stderr)
    sys.exit(2)


sys.excepthook = _say_interrupted
_check_backend(os.environ["KERAS_BACKEND"])
keep_freed_memory()
if os.environ["KERAS_BACKEND"] == "jax":
    leave_out_ynnpack()
quiet.install()
