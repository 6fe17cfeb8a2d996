"""PyTorch's own weight files, read without running any code of theirs."""

import importlib
import os
import pickle
import warnings

import numpy as np

from mtl_keras.errors import UserError, first_line
from mtl_keras.files import refuse_harmful_archive


def read_torch_tensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors of a file that `torch.save` wrote, float32, without running any code of it.

    Args:
        path: a state dict, or a dict that holds one under `state_dict` or `model`.

    Raises:
        UserError: where torch is not installed, or the file holds anything but tensors or is made to do harm.
    """
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        raise UserError(f"{path}: needs torch to read; install it, or give the weights as .safetensors") from None
    refuse_harmful_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the pickle's version, where the refusal says all
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Unpickling raises whatever the bytes at hand lead to; what torch says of a pickle advises to run its code.
        pickled = isinstance(error, pickle.UnpicklingError)
        reason = "damaged, or needs code of its own, which is never run" if pickled else first_line(error)
        raise UserError(
            f"{path}: not a whole file of tensors alone ({reason}); get it again, or as .safetensors"
        ) from None
    for key in ("state_dict", "model"):
        state = state.get(key, state) if isinstance(state, dict) else state
    tensors = {k: v for k, v in state.items() if torch.is_tensor(v)} if isinstance(state, dict) else {}
    if not tensors:
        raise UserError(
            f"{path}: holds no tensors by name; give a state dict, as torch.save(model.state_dict(), …) makes"
        )
    return {str(name): value.detach().float().numpy() for name, value in tensors.items()}
