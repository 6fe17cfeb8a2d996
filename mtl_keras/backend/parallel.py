"""Data parallelism: every device holds the weights and computes its share of each batch.

The batch is the global one whatever the number of devices. JAX partitions one program over them, so losses, gradients,
metrics and the statistics of batch normalisation are those of a single device by construction. TensorFlow runs a
replica a device (`tf.distribute.MirroredStrategy`): batch normalisation is synchronised, and a replica's loss counts as
much as it has valid pixels.
"""

import contextlib
import dataclasses
import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from mtl_keras.backend import processes
from mtl_keras.errors import UserError


@dataclasses.dataclass(frozen=True)
class Parallel:
    """Devices that train one model together.

    Args:
        devices: devices of this process, the first ones it has; every process has as many.
        synchronized: whether TensorFlow's replicas share the statistics of batch normalisation; JAX's always do.
    """

    devices: int = 1
    synchronized: bool = True

    @classmethod
    def over(cls, devices: int | str = 1, synchronized: bool = True) -> "Parallel":
        """Checks that the devices are there.

        Args:
            devices: how many, or "all".
            synchronized: as for the class.

        Raises:
            UserError: more devices than there are, or several under a backend that cannot.
        """
        name = keras.backend.backend()
        if name == "torch" and devices != 1:
            raise UserError("devices: data parallelism is not provided under torch; set KERAS_BACKEND=jax")
        if name == "jax" and not synchronized:
            raise UserError("sync_batch_norm: JAX's batch norm always spans all devices; leave the flag out")
        present = 1 if devices == 1 else len(_local_devices())
        count = present if devices == "all" else int(devices)
        if not 1 <= count <= present:
            choice = f"1 to {present}" if present > 1 else "1"
            raise UserError(f"devices: {devices} asked for, and {name} has {present} here; give {choice}, or all")
        return cls(count, synchronized)

    @property
    def total(self) -> int:
        """The devices of all processes together."""
        return self.devices * processes.process_count()

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """What is built, trained and evaluated inside is on all devices."""
        with self._strategy.scope() if self.total > 1 else contextlib.nullcontext():
            yield

    @functools.cached_property
    def _strategy(self) -> Any:
        return _jax_strategy(self.devices) if keras.backend.backend() == "jax" else _tensorflow_strategy(self.devices)

    def prepare(self, model: keras.Model) -> None:
        """Has a model's batch normalisation span TensorFlow's replicas; its config stays as it is."""
        if self.total == 1 or keras.backend.backend() != "tensorflow":
            return
        for layer in model._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = self.synchronized


def _jax_strategy(devices: int) -> keras.distribution.DataParallel:
    everywhere = importlib.import_module("jax").devices()
    processes_of = {device.process_index for device in everywhere}
    used = [
        f"{device.platform}:{device.id}"
        for process in sorted(processes_of)
        for device in [device for device in everywhere if device.process_index == process][:devices]
    ]
    # The loader gives each process its share.
    return keras.distribution.DataParallel(devices=used, auto_shard_dataset=False)


def _tensorflow_strategy(devices: int) -> Any:
    tensorflow = importlib.import_module("tensorflow")
    # Keeps its list of devices, and its warning that CPUs have no NCCL, off the terminal.
    tensorflow.get_logger().setLevel("ERROR")
    return tensorflow.distribute.MirroredStrategy(_local_devices()[:devices])


def _local_devices() -> list[str]:
    """This process's accelerators, or else its CPU devices, under the backend's names."""
    if keras.backend.backend() == "jax":
        jax = importlib.import_module("jax")
        return [f"{device.platform}:{device.id}" for device in jax.local_devices()]
    config = importlib.import_module("tensorflow").config
    found = config.list_logical_devices("GPU") or config.list_logical_devices("CPU")
    return [device.name for device in found]


def devices_in_use() -> int:
    """How many devices compute what is built here."""
    if keras.backend.backend() == "jax":
        distribution = keras.distribution.distribution()
        return distribution.device_mesh.devices.size if distribution else 1
    return _replicas()


def share_of_batch(loss, weight):
    """A replica's mean loss, scaled so that the sum over the replicas is the mean over the global batch.

    Args:
        loss: the mean over what counts in the replica's part of the batch, a scalar.
        weight: how much counts there, such as its number of valid pixels.

    Returns the loss itself where nothing is replicated, and under JAX, which sees the whole batch.
    """
    if _replicas() == 1:
        return loss
    distribute = importlib.import_module("tensorflow").distribute
    context = distribute.get_replica_context()
    if context is None:
        return loss
    return loss * weight / ops.maximum(context.all_reduce(distribute.ReduceOp.SUM, weight), 1.0)


def build_optimizer(model: keras.Model) -> None:
    """Makes the optimizer's variables, if need be: without them TensorFlow would trace the first step twice."""
    if model.optimizer is None:
        raise ValueError("optimizer: None cannot train; give compile one, such as mtl_keras.optimizers.Adam()")
    if model.optimizer.built:
        return
    # Only TensorFlow's models have one, the default where none was chosen.
    strategy = getattr(model, "distribute_strategy", None)
    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        model.optimizer.build(model.trainable_variables)


def assign_total(variable: keras.Variable, value: np.ndarray) -> None:
    """Assigns a value; where a metric's replicas are summed when they are read, to the sum.

    TensorFlow would give each replica its part of the value, and the parts of a whole number are not whole.
    """
    parts = getattr(variable.value, "values", None)
    if _replicas() == 1 or not isinstance(parts, tuple) or variable.synchronization != "on_read":
        variable.assign(value)
        return
    for index, part in enumerate(parts):
        part.assign(value if index == 0 else np.zeros_like(value))


def local_predictor(model: keras.Model) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """A function from images to the model's outputs that concerns this process alone, whatever the others do.

    Under JAX it runs on one device, with the weights that lie there; the batch need not be divisible.
    """
    if keras.backend.backend() != "jax" or not keras.distribution.distribution():
        return functools.partial(_predict_evenly, model)
    jax = importlib.import_module("jax")
    compiled = jax.jit(lambda trained, others, images: model.stateless_call(trained, others, images, training=False)[0])

    def predict(images: np.ndarray) -> dict[str, np.ndarray]:
        here = [_on_this_device(variables) for variables in (model.trainable_variables, model.non_trainable_variables)]
        outputs = compiled(*here, jax.device_put(images, here[0][0].sharding))
        return {name: np.asarray(output) for name, output in outputs.items()}

    return predict


def _predict_evenly(model: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    """Filled up with copies of the last image, for TensorFlow's replicas cannot do with an empty part."""
    filling = images[-1:].repeat(-len(images) % _replicas(), axis=0)
    batch = np.concatenate([images, filling])
    outputs = model.predict(batch, batch_size=len(batch), verbose=0)
    return {name: output[: len(images)] for name, output in outputs.items()}


def _on_this_device(variables: list[keras.Variable]) -> list[Any]:
    return [variable.value.addressable_data(0) for variable in variables]


def _replicas() -> int:
    if keras.backend.backend() != "tensorflow":
        return 1
    return importlib.import_module("tensorflow").distribute.get_strategy().num_replicas_in_sync
