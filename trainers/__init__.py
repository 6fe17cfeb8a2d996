"""The commands, each `python -m trainers.NAME`."""

import os

from trainers import quiet

# Of the backends that requirements.txt installs, JAX is the fastest on a CPU and starts first. (Keras writes a
# keras.json that names TensorFlow by itself, so that file is no choice of the user's.)
os.environ.setdefault("KERAS_BACKEND", "jax")
quiet.install()
