"""What differs between Keras' backends, in one place: nothing outside names TensorFlow, JAX or torch."""

from mtl_keras.backend.eager import is_eager, is_watched, is_within_call
from mtl_keras.backend.feeding import ReadyBatches, feed, feed_images
from mtl_keras.backend.hardware import (
    cores,
    describe,
    idle_gpu_warning,
    peak_memory,
    present_gpus,
    set_random_seed,
    try_kernels,
    wait_for,
)
from mtl_keras.backend.kernels import (
    adam_step,
    convolve,
    count,
    in_order,
    interpolate,
    lay_out_kernels,
    max_pool,
    normalize,
    normalize_batch,
    upsample_bilinear,
)
from mtl_keras.backend.parallel import Parallel, assign_total, build_optimizer, local_predictor, share_of_batch
from mtl_keras.backend.processes import connect, disconnect, preempted, process_count, process_index
from mtl_keras.backend.torch_files import read_torch_tensors

__all__ = [
    "Parallel",
    "ReadyBatches",
    "adam_step",
    "assign_total",
    "build_optimizer",
    "connect",
    "convolve",
    "cores",
    "count",
    "describe",
    "disconnect",
    "feed",
    "feed_images",
    "idle_gpu_warning",
    "in_order",
    "interpolate",
    "is_eager",
    "is_watched",
    "is_within_call",
    "lay_out_kernels",
    "local_predictor",
    "max_pool",
    "normalize",
    "normalize_batch",
    "peak_memory",
    "preempted",
    "present_gpus",
    "process_count",
    "process_index",
    "read_torch_tensors",
    "set_random_seed",
    "share_of_batch",
    "try_kernels",
    "upsample_bilinear",
    "wait_for",
]
