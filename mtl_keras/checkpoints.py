"""A training state on disk: safetensors, written beside and renamed, with a checksum in its name, two generations.

Safetensors hold arrays and nothing else, so that reading a stranger's file runs no code.
"""

import errno
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import safetensors
import safetensors.numpy

from mtl_keras.backend import assign_total
from mtl_keras.errors import UserError, first_line
from mtl_keras.files import write_bytes

# bfloat16 and other types that NumPy lacks do not occur: Keras keeps its variables in float32 under every policy.
State = dict[str, np.ndarray]
# A step, the state after it, and facts that go with it.
SavedState = tuple[int, State, dict[str, Any]]

_SEED = re.compile(r"seed_generator(_\d+)?/")
_NAME = re.compile(r"step-(\d{10})-([0-9a-f]{16})\.safetensors")


def training_state(model: keras.Model) -> State:
    """Copies of everything that a step reads or writes: weights, optimizer, metrics under way, random state."""
    return _copies(_trained(model))


def restore_training_state(model: keras.Model, state: State) -> None:
    """Puts back what `training_state` took; raises `UserError` where the model is another one."""
    assign(_trained(model), state)


def _trained(model: keras.Model) -> dict[str, keras.Variable]:
    groups = {"model": model.variables, "metrics": model.metrics_variables}
    if model.optimizer is not None:
        groups["optimizer"] = model.optimizer.variables
    return _named(groups)


def weights_of(model: keras.Model) -> State:
    """Copies of a model's weights by path, batch statistics included and dropouts' seeds left out."""
    return _copies(_named({"": model.weights}))


def _copies(variables: Mapping[str, keras.Variable]) -> State:
    return {name: np.array(keras.ops.convert_to_numpy(variable)) for name, variable in variables.items()}


def assign_weights(model: keras.Model, weights: State) -> None:
    """Puts back what `weights_of` took; raises `UserError` where the model is another one."""
    assign(_named({"": model.weights}), weights)


def assign(variables: Mapping[str, keras.Variable], arrays: State) -> None:
    """Assigns arrays to variables, all of them or, raising `UserError`, none."""
    if missing := sorted(set(variables) ^ set(arrays)):
        where = "the file" if missing[0] in variables else "the model"
        raise UserError(f"weights: '{missing[0]}' is missing in {where}; they are of another model, build that one")
    for name, variable in variables.items():
        if tuple(variable.shape) != arrays[name].shape:
            raise UserError(
                f"weights: '{name}' has shape {arrays[name].shape} in the file and {tuple(variable.shape)} in the "
                "model; they are of another model, build that one"
            )
    for name, variable in variables.items():
        assign_total(variable, arrays[name])


def _named(groups: Mapping[str, list[keras.Variable]]) -> dict[str, keras.Variable]:
    named: dict[str, keras.Variable] = {}
    for group, variables in groups.items():
        seeds = 0
        for variable in variables:
            # Keras numbers them through the whole process: the same network would have other names in another place.
            path, is_seed = _SEED.subn(f"seed_generator_{seeds}/", variable.path)
            seeds += is_seed
            name = f"{group}/{path}".lstrip("/")
            if name in named:
                raise ValueError(f"two variables have the path '{name}'")
            named[name] = variable
    return named


def write_tensors(path: Path, tensors: State, facts: Mapping[str, Any]) -> None:
    """Writes arrays with JSON facts in the header, whole or not at all."""
    write_bytes(path, _encoded(tensors, facts))


def _encoded(tensors: State, facts: Mapping[str, Any]) -> bytes:
    # safetensors writes memory as it lies, and PyTorch's weights may lie channels last.
    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    return safetensors.numpy.save(arrays, metadata={key: json.dumps(value) for key, value in facts.items()})


def read_tensors(path: Path) -> tuple[State, dict[str, Any]]:
    """Reads what `write_tensors` wrote; raises `UserError` for a file that is not whole safetensors."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            facts = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the path of a .safetensors file") from None
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({first_line(error)}); get it again") from None


class StateFiles:
    """The last states of a run: `step-<step>-<checksum>.safetensors`, the newest two.

    The one before stays until the next is proven readable. `damaged` lists the files that `load` passed over.

    Args:
        folder: where the files lie.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.damaged: list[Path] = []
        self._proven: Path | None = None

    def save(self, step: int, state: State, facts: Mapping[str, Any]) -> Path:
        """Writes the state after `step` steps, proves it, and removes all others but the newest whole one.

        Raises:
            OSError: it cannot be written, or does not read back as it was written; the others are all there.
        """
        content = _encoded(state, facts)
        final = self.folder / f"step-{step:010d}-{_checksum(content)}.safetensors"
        write_bytes(final, content)
        if not self._whole(final):
            raise OSError(errno.EIO, "does not read back as it was written", str(final))
        others = [path for _, path in self._found() if path != final]
        known = self._proven if self._proven in others else None
        kept = known or next((path for path in others if self._whole(path)), None)
        for other in others:
            if other != kept:
                other.unlink(missing_ok=True)
        self._proven = final
        return final

    def load(self) -> SavedState | None:
        """The newest whole state as (step, state, facts), or None; a damaged file is passed over."""
        for step, path in self._found():
            if self._whole(path):
                self._proven = path
                return step, *read_tensors(path)
            self.damaged.append(path)
        return None

    def _found(self) -> list[tuple[int, Path]]:
        matches = ((_NAME.fullmatch(path.name), path) for path in self.folder.glob("step-*"))
        return sorted(((int(match[1]), path) for match, path in matches if match), reverse=True)

    def _whole(self, path: Path) -> bool:
        match = _NAME.fullmatch(path.name)
        return match is not None and _checksum(path.read_bytes()) == match[2]


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
