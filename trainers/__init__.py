"""The commands, each `python -m trainers.NAME`."""

import os

from trainers import quiet
from trainers.allocator import keep_freed_memory

# Of the backends that requirements.txt installs, JAX starts first (BUILD_NOTES.md, "Measured"). (Keras writes a
# keras.json that names TensorFlow by itself, so that file is no choice of the user's.)
os.environ.setdefault("KERAS_BACKEND", "jax")
# A step compiled once is read back the next time: a second run's first step comes in half the time.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(os.path.expanduser("~"), ".cache", "mtl_keras", "xla"))
keep_freed_memory()
quiet.install()
