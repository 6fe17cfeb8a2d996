"""The commands, each `python -m trainers.NAME`."""

import os

# Of the backends that requirements.txt installs, JAX is the fastest on a CPU and starts first. (Keras writes a
# keras.json that names TensorFlow by itself, so that file is no choice of the user's.)
os.environ.setdefault("KERAS_BACKEND", "jax")
# Libraries' start-up chatter would stand above the first line that matters.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
