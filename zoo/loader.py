"""`load`: a model from a run, a Keras file or a checkpoint, as it was or to be fine-tuned."""

from pathlib import Path
from typing import Any

from mtl_keras.checkpoints import assign_weights, read_tensors
from mtl_keras.data.spec import DataSpec
from mtl_keras.errors import UserError, first_line
from mtl_keras.keras_files import load_keras_file
from mtl_keras.model import MultiTaskModel
from zoo.adaptation import adapt
from zoo.builder import ARCHITECTURE, build, checked_spec
from zoo.preset import PRESETS


def load(
    path: str | Path, *, num_classes: int | None = None, spec: DataSpec | None = None, **options: Any
) -> MultiTaskModel:
    """Loads a model that was trained or saved before, as it was or for another dataset.

    ```python
    model = zoo.load("runs/1123-0145_branched_a1b2c")
    model = zoo.load("runs/1123-0145_branched_a1b2c", num_classes=7)  # to fine-tune
    ```

    With another number of classes, only the last convolutions are new, and of those only the classes' channels.

    Args:
        path: a run's folder (its best checkpoint is loaded), a `.keras` file or a `.safetensors` checkpoint.
        num_classes: number of classes to fine-tune for, where no `spec` is given.
        spec: the dataset to fine-tune for; the model's own by default.
        **options: of `zoo.build`, to override the model's own; its weights must fit, as they do under any dilation.

    Raises:
        UserError: for a path that is none of these, a file that is damaged or needs code to load, or options that the
            weights do not fit.
    """
    model = _load(Path(path))
    if spec is None and num_classes is None and not options:
        return model
    return adapt(model, checked_spec(num_classes, spec, model.spec), options, str(path))


def _load(path: Path) -> MultiTaskModel:
    if not path.exists() and str(path) in PRESETS:
        preset = PRESETS[str(path)]
        raise UserError(
            f"preset '{path}': no weights of it are published; train it with `python -m trainers.fit {preset.flags}`, "
            f"or build it untrained: {preset.call}"
        )
    if path.is_dir():
        path = _of_run(path)
    if not path.is_file():
        raise UserError(f"{path}: no such run or file; give a run's folder, a .keras or a .safetensors file")
    if path.suffix == ".safetensors":
        return _from_checkpoint(path)
    if path.suffix == ".keras":
        return _from_keras(path)
    raise UserError(f"{path}: '{path.suffix}' is no model file; give a run's folder, a .keras or a .safetensors file")


def _of_run(folder: Path) -> Path:
    # While a run goes on, only its checkpoint is its best.
    for candidate in (folder / "checkpoints" / "best.safetensors", folder / "model.keras"):
        if candidate.is_file():
            return candidate
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: no run, for it has no config.json; give a run's folder, such as runs/NAME")
    raise UserError(f"{folder}: no model in it yet (checkpoints/best.safetensors or model.keras); let an epoch finish")


def _from_checkpoint(path: Path) -> MultiTaskModel:
    weights, facts = read_tensors(path)
    if not {"architecture", "spec"} <= set(facts):
        raise UserError(f"{path}: does not say which model it is of; give a checkpoint that trainers.fit wrote")
    try:
        # Nothing but what a topology is made of: a stranger's file must not name weights to be fetched.
        architecture = {name: facts["architecture"].pop(name) for name in ARCHITECTURE}
        if facts["architecture"]:
            raise ValueError(f"'{next(iter(facts['architecture']))}' is no part of an architecture")
        model = build(**architecture, spec=DataSpec.from_dict(facts["spec"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: does not describe a model ({first_line(error)}); get it again, or put a topology of your own "
            "back into zoo/"
        ) from None
    assign_weights(model, weights)
    return model


def _from_keras(path: Path) -> MultiTaskModel:
    model = load_keras_file(path)
    if not isinstance(model, MultiTaskModel):
        raise UserError(f"{path}: holds a {type(model).__name__}; give a model that this library saved")
    return model
