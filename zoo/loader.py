"""`load`: a model from a run, a Keras file or a checkpoint."""

from pathlib import Path

import keras

from mtl_keras.checkpoints import assign_weights, read_tensors
from mtl_keras.data.spec import DataSpec
from mtl_keras.errors import UserError
from mtl_keras.model import MultiTaskModel
from zoo.builder import build


def load(path: str | Path) -> MultiTaskModel:
    """Loads a model that was trained or saved before.

    ```python
    model = zoo.load("runs/1123-0145_branched_a1b2c")
    ```

    Args:
        path: a run's folder (its best checkpoint is loaded), a `.keras` file, or a `.safetensors` checkpoint.

    Raises:
        UserError: for a path that is none of these, or a file that is damaged or needs code to load.
    """
    path = Path(path)
    if path.is_dir():
        return load(_of_run(path))
    if not path.is_file():
        raise UserError(f"{path}: no such run or file; give a run's folder, a .keras or a .safetensors file")
    if path.suffix == ".safetensors":
        return _from_checkpoint(path)
    if path.suffix == ".keras":
        return _from_keras(path)
    raise UserError(f"{path}: '{path.suffix}' is no model file; give a run's folder, a .keras or a .safetensors file")


def _of_run(folder: Path) -> Path:
    for candidate in (folder / "model.keras", folder / "checkpoints" / "best.safetensors"):
        if candidate.is_file():
            return candidate
    raise UserError(f"{folder}: no model in it yet (model.keras or checkpoints/best.safetensors); let an epoch finish")


def _from_checkpoint(path: Path) -> MultiTaskModel:
    weights, facts = read_tensors(path)
    if not {"architecture", "spec"} <= set(facts):
        raise UserError(f"{path}: does not say which model it is of; give a checkpoint that trainers.fit wrote")
    model = build(**facts["architecture"], spec=DataSpec.from_dict(facts["spec"]))
    assign_weights(model, weights)
    return model


def _from_keras(path: Path) -> MultiTaskModel:
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        # Keras raises whatever its parts raise; the first line says what.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: cannot be loaded ({reason}); give a model that this library saved") from error
    if not isinstance(model, MultiTaskModel):
        raise UserError(f"{path}: holds a {type(model).__name__}; give a model that this library saved")
    return model
