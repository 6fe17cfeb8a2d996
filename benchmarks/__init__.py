"""What measures speed and memory, and the peers that it is measured against."""

import os

# As for the commands; Keras' own default, TensorFlow, takes longest to start.
os.environ.setdefault("KERAS_BACKEND", "jax")
