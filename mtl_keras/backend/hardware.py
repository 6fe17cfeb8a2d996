"""The devices of this machine, what is said of them, and the random state of what runs on them."""

import collections
import importlib
import math
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mtl_keras.backend import cgroups, parallel, processes


def cores() -> int:
    """The processor's cores that this process may use; a scheduler or a container may give it fewer than there are."""
    present = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(present, cgroups.cores())))


def wait_for(values: Any) -> None:
    """Waits until the device has computed values of any structure, and brings none of them to the host.

    JAX alone runs far ahead of a device without it.
    """
    if keras.backend.backend() == "jax":
        importlib.import_module("jax").block_until_ready(values)


def try_kernels() -> None:
    """Has PyTorch try cuDNN's convolutions on each new size and keep the fastest, as JAX' compiler does."""
    if keras.backend.backend() == "torch":
        importlib.import_module("torch").backends.cudnn.benchmark = True


def describe() -> str:
    """The backend, its version and the devices in use, such as "jax 0.10.2 on 2 × NVIDIA H100 (2 of 8)"."""
    name, count = keras.backend.backend(), parallel.devices_in_use()
    together = f" in {processes.process_count()} processes" if processes.process_count() > 1 else ""
    return f"{name} {importlib.import_module(name).__version__} on {_where(_accelerators(), count)}{together}"


def _where(accelerators: list[str], count: int) -> str:
    if not accelerators:
        return f"{count} × cpu" if count > 1 else f"cpu ({cores()} cores)"
    kinds = collections.Counter(accelerators[:count]).items()
    names = ", ".join(f"{times} × {kind}" if times > 1 else kind for kind, times in kinds)
    return f"{names} ({count} of {len(accelerators)})" if count < len(accelerators) else names


def _accelerators() -> list[str]:
    return {"jax": _jax_devices, "tensorflow": _tensorflow_devices, "torch": _torch_devices}[keras.backend.backend()]()


def _jax_devices() -> list[str]:
    jax = importlib.import_module("jax")
    return [device.device_kind for device in jax.devices() if device.platform != "cpu"]


def _tensorflow_devices() -> list[str]:
    config = importlib.import_module("tensorflow").config
    gpus = config.list_physical_devices("GPU")
    return [config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]


def _torch_devices() -> list[str]:
    cuda = importlib.import_module("torch").cuda
    return [cuda.get_device_name(index) for index in range(cuda.device_count())]


def peak_memory() -> int | None:
    """The most bytes of the first accelerator that this process ever used; None where none are counted, as on a CPU."""
    if not _accelerators():
        return None
    return {"jax": _jax_peak, "tensorflow": _tensorflow_peak, "torch": _torch_peak}[keras.backend.backend()]()


def _jax_peak() -> int | None:
    # An allocator that the user has chosen may keep no count.
    return (importlib.import_module("jax").local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def _tensorflow_peak() -> int:
    return importlib.import_module("tensorflow").config.experimental.get_memory_info("GPU:0")["peak"]


def _torch_peak() -> int:
    return importlib.import_module("torch").cuda.max_memory_allocated()


def present_gpus() -> list[str]:
    """The names of this machine's NVIDIA GPUs as the driver tells them, whether or not a backend can use them."""
    command = shutil.which("nvidia-smi")
    if command:
        query = [command, "--query-gpu=name", "--format=csv,noheader"]
        try:
            found = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return []
        return found.stdout.split("\n")[:-1]
    return [_model(path) for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))]


def _model(path: Path) -> str:
    try:
        facts = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    except OSError:
        facts = {}
    return facts.get("Model", "NVIDIA GPU").strip()


def idle_gpu_warning(present: Callable[[], list[str]] = present_gpus) -> str | None:
    """One line if this machine has a GPU that the backend does not see, else None.

    Nothing is said where the environment keeps GPUs out: `CUDA_VISIBLE_DEVICES` empty or -1, or `JAX_PLATFORMS=cpu`.

    Args:
        present: tells the names of the machine's GPUs.
    """
    kept_out = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") or os.environ.get("JAX_PLATFORMS") == "cpu"
    if kept_out or _accelerators() or not (gpus := present()):
        return None
    name = keras.backend.backend()
    return (
        f"warning: this machine has a GPU ({gpus[0]}) that {name} does not see, so the CPU computes: "
        f"pip install '.[cuda-{name}]' installs {name} for GPUs; if it is installed, the driver may be too old"
    )


def set_random_seed(seed: int) -> None:
    """Seeds Python, NumPy and the backend; `keras.utils.set_random_seed` imports TensorFlow under any backend."""
    random.seed(seed)
    np.random.seed(seed)
    if keras.backend.backend() == "tensorflow":
        importlib.import_module("tensorflow").random.set_seed(seed)
    elif keras.backend.backend() == "torch":
        importlib.import_module("torch").manual_seed(seed)
