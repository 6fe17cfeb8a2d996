"""Has JAX' compiler for CPUs leave products and sums to its own kernels.

XLA hands them to YNNPACK, where the gradients of the widest convolutions' kernels take four times as long, and with
them a training step a fifth longer (BUILD_NOTES.md, "Decisions"; of sums, github.com/jax-ml/jax/issues/37465).
"""

import importlib.metadata
import os

FLAG = "--xla_cpu_experimental_ynn_fusion_type"
# XLA ends the process at a flag that it does not know, and this one is experimental.
_KNOWN_TO = ("0.10.2", "0.11.2")


def leave_out_ynnpack() -> None:
    """Sets XLA's flag in the environment, unless the user has set it; takes effect before JAX is first used."""
    given = os.environ.get("XLA_FLAGS", "")
    if FLAG not in given and _version() in _KNOWN_TO:
        os.environ["XLA_FLAGS"] = f"{given} {FLAG}=".lstrip()


def _version() -> str | None:
    try:
        return importlib.metadata.version("jaxlib")
    except importlib.metadata.PackageNotFoundError:
        return None
