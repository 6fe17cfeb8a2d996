"""Several processes that train one model together, each with devices of its own; JAX alone has them here."""

import importlib

import keras

from mtl_keras.errors import UserError, first_line


def connect(coordinator: str, count: int | None = None, index: int | None = None) -> None:
    """Joins the processes that train together; to be called before anything is computed.

    Args:
        coordinator: HOST:PORT where process 0 listens, or "auto": Slurm and Open MPI tell all three.
        count: how many processes there are.
        index: which of them this one is, from 0.

    Raises:
        UserError: under another backend than JAX, or where something is missing or wrong.
    """
    if keras.backend.backend() != "jax":
        raise UserError(
            f"coordinator: several processes are not supported under {keras.backend.backend()}; set KERAS_BACKEND=jax"
        )
    host, _, port = coordinator.rpartition(":")
    if coordinator != "auto":
        if not host or not port.isdecimal():
            raise UserError(f"coordinator: '{coordinator}' is not HOST:PORT; give one such as node1:1234, or auto")
        if count is None or index is None or not 0 <= index < count:
            raise UserError(f"process_id: {index} of {count} processes; give --processes=N and --process_id=0 to N - 1")
    address = None if coordinator == "auto" else coordinator
    distributed = importlib.import_module("jax").distributed
    try:
        # What is told stands over what JAX would find: in a Slurm job, that each process has a single device.
        method = None if address is None else "deactivate"
        distributed.initialize(address, count, index, cluster_detection_method=method)
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"coordinator: {coordinator} does not work ({first_line(error)}); "
            "give --coordinator=HOST:PORT --processes=N --process_id=I"
        ) from None


def process_count() -> int:
    """How many processes train together."""
    return importlib.import_module("jax").process_count() if _connected() else 1


def process_index() -> int:
    """Which of them this one is; process 0 writes the run's files."""
    return importlib.import_module("jax").process_index() if _connected() else 0


def disconnect() -> None:
    """Lets the other processes go, once all have come here; what is left to do concerns this process alone."""
    if _connected():
        importlib.import_module("jax").distributed.shutdown()


def preempted(batch: int) -> bool:
    """Whether all processes stop after this batch, because SIGTERM has reached one of them.

    Every process is to ask after every batch, counted from 1. All get the same answer, so that none waits for another
    for ever.
    """
    utils = importlib.import_module("jax.experimental.multihost_utils")
    return bool(utils.reached_preemption_sync_point(batch))


def _connected() -> bool:
    return keras.backend.backend() == "jax" and importlib.import_module("jax").distributed.is_initialized()
