"""What a `MultiTaskModel` refuses: outputs, losses and exports that would fail later, or give wrong numbers."""

import numbers
from collections.abc import Mapping
from typing import Any

import keras

from mtl_keras.data.spec import DataSpec
from mtl_keras.losses import TASKS
from mtl_keras.optimizers import unwrapped


def check_outputs(outputs: Mapping[str, keras.KerasTensor], spec: DataSpec) -> None:
    """Raises `ValueError` for an output of no task, of other channels than its task has, or of half precision."""
    if not isinstance(spec, DataSpec):
        raise ValueError(f"spec: {spec!r} is no DataSpec; give that of the dataset")
    for name, output in outputs.items():
        task, channels, dtype = name.split("_")[0], output.shape[-1], output.dtype
        if task not in TASKS:
            raise ValueError(
                f"outputs: '{name}' is of no task; name it {' or '.join(TASKS)}, or {TASKS[0]}_{name}, say"
            )
        if task == "semseg" and channels != spec.num_classes:
            raise ValueError(f"{name}: {channels} channels for the {spec.num_classes} classes of spec '{spec.name}'")
        if task == "depth" and channels != 1:
            raise ValueError(f"{name}: {channels} channels for depth, which has one")
        if dtype in ("float16", "bfloat16"):
            raise ValueError(f"{name}: {dtype} is too coarse for a prediction; give the last layer dtype='float32'")


def check_compile(loss: Any, loss_weights: Any, options: Mapping[str, Any]) -> None:
    """Raises `ValueError` for a loss or a weight of no task, a loss that cannot be called, or metrics."""
    for argument, given in (("loss", loss or {}), ("loss_weights", loss_weights or {})):
        if not isinstance(given, Mapping):
            raise ValueError(f"{argument}: {given!r} is no dict; give one with {' and '.join(TASKS)}")
        if unknown := set(given) - set(TASKS):
            raise ValueError(f"{argument}: no task '{unknown.pop()}'; the tasks are {' and '.join(TASKS)}")
    for task, function in (loss or {}).items():
        if not callable(function) or isinstance(function, type):
            raise ValueError(f"loss: {function!r} of {task} cannot be called; give a loss, such as a DepthLoss()")
    for task, weight in (loss_weights or {}).items():
        if not isinstance(weight, numbers.Real):
            raise ValueError(f"loss_weights: {weight!r} of {task} is no number; give one, such as 0.5")
    if options.get("metrics") or options.get("weighted_metrics"):
        raise ValueError("metrics: the model brings its own; leave them out, or give fit a callback")


def check_optimizer(optimizer: Any, scales_loss: bool) -> None:
    """Raises `ValueError` for steps to be left out where Keras scales the loss, and leaves them out by its own rule."""
    inner = unwrapped(optimizer)
    if getattr(inner, "skip_non_finite", False) and (scales_loss or inner is not optimizer):
        raise ValueError(
            "skip_non_finite: does not go with a scaled loss, which skips such steps by itself; use mixed_bfloat16, or "
            "leave it out"
        )


def no_export(format: str, signature: Any) -> str:
    """Why there is no such export of inputs like these, and the way out; "" if there is one."""
    backend = keras.backend.backend()
    if format == "tf_saved_model" and backend == "torch":
        return "PyTorch makes no SavedModel; load the model under TensorFlow"
    free = any(side is None for given in keras.tree.flatten(signature) for side in given.shape[1:])
    if free and (format in ("onnx", "openvino") or format == "tf_saved_model" and backend == "jax"):
        given = 'input_signature=[keras.InputSpec("float32", (None, 512, 1024, 3))]'
        return f"{'JAX' if format == 'tf_saved_model' else 'Keras'} traces one size; give it, as {given}"
    return ""
