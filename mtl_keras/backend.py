"""What differs between Keras' backends, in one place."""

import importlib
import importlib.metadata
import os
import random

import keras
import numpy as np

from mtl_keras.errors import UserError, first_line


def describe() -> str:
    """The backend, its version and its devices in a few words, such as "jax 0.10.2 on cpu (2 cores)"."""
    name = keras.backend.backend()
    version = importlib.metadata.version(name)
    return f"{name} {version} on {', '.join(sorted(set(devices())))}"


def set_random_seed(seed: int) -> None:
    """Seeds Python, NumPy and the backend; `keras.utils.set_random_seed` imports TensorFlow under any backend."""
    random.seed(seed)
    np.random.seed(seed)
    if keras.backend.backend() == "tensorflow":
        importlib.import_module("tensorflow").random.set_seed(seed)
    elif keras.backend.backend() == "torch":
        importlib.import_module("torch").manual_seed(seed)


def devices() -> list[str]:
    """The names of the devices that computations run on, as people call them."""
    names = {"jax": _jax_devices, "tensorflow": _tensorflow_devices, "torch": _torch_devices}[keras.backend.backend()]()
    return names or [f"cpu ({os.cpu_count()} cores)"]


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


def read_torch_tensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors of a file that `torch.save` wrote, float32, without running any code of it.

    Args:
        path: a state dict, or a dict that holds one under `state_dict` or `model`.

    Raises:
        UserError: where torch is not installed, or the file holds anything but tensors.
    """
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        raise UserError(f"{path}: needs torch to read; install it, or give the weights as .safetensors") from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Unpickling raises whatever the bytes at hand lead to.
        raise UserError(
            f"{path}: not a whole file of tensors alone ({first_line(error)}); get it again, or as .safetensors"
        ) from None
    for key in ("state_dict", "model"):
        state = state.get(key, state) if isinstance(state, dict) else state
    tensors = {k: v for k, v in state.items() if torch.is_tensor(v)} if isinstance(state, dict) else {}
    if not tensors:
        raise UserError(
            f"{path}: holds no tensors by name; give a state dict, as torch.save(model.state_dict(), …) makes"
        )
    return {str(name): value.detach().float().numpy() for name, value in tensors.items()}
