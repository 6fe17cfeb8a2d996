"""What differs between Keras' backends, in one place."""

import importlib
import importlib.metadata
import os

import keras


def describe() -> str:
    """The backend, its version and its devices in a few words, such as "jax 0.10.2 on cpu (2 cores)"."""
    name = keras.backend.backend()
    version = importlib.metadata.version("tensorflow" if name == "tensorflow" else name)
    return f"{name} {version} on {', '.join(sorted(set(devices())))}"


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
