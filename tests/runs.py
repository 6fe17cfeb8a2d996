"""A model that decides like a trained one, and a run folder as training leaves it, without any training."""

from pathlib import Path
from typing import Any

import keras
import numpy as np

import zoo
from mtl_keras import MultiTaskModel
from mtl_keras.checkpoints import weights_of, write_tensors
from mtl_keras.exporting.check import sample_images
from tests.harness import randomize
from trainers.config import RunConfig
from trainers.run_folder import RunFolder, create

OPTIONS: dict[str, Any] = {"encoder": "resnet18", "aspp": False}


def decisive_model(arch: str = "branched", **options: Any) -> MultiTaskModel:
    """Many classes and depths in every image, as a trained model has them.

    A network of random weights says nearly the same of every pixel, and any two of its predictions agree.
    """
    keras.utils.set_random_seed(0)
    model = zoo.build(arch, **{**OPTIONS, **options})
    randomize(model)
    predictions = model.predict(sample_images(2, 64, 96, seed=9), verbose=0)
    normalized = (predictions["depth"] - model.spec.depth_mean) / model.spec.depth_std
    values = np.concatenate([predictions["semseg"], normalized], axis=-1).reshape(-1, model.spec.num_classes + 1)
    # Logits spread by 3, and depth by 0.6 deviations around a little less than the mean.
    gain = np.append(np.full(model.spec.num_classes, 3.0), 0.6) / values.std(axis=0)
    shift = np.append(np.zeros(model.spec.num_classes), -0.3) - gain * values.mean(axis=0)
    channels = {"shared": np.s_[:]} if arch == "joint" else {"semseg": np.s_[:-1], "depth": np.s_[-1:]}
    for name, part in channels.items():
        predict = model.get_layer(f"{name}_predictor").get_layer("predict")
        kernel, bias = (keras.ops.convert_to_numpy(variable) for variable in (predict.kernel, predict.bias))
        predict.kernel.assign(kernel * gain[part])
        predict.bias.assign(bias * gain[part] + shift[part])
    return model


def write_run(folder: Path, model: MultiTaskModel, **settings: Any) -> RunFolder:
    """A run's folder with its configuration and its best checkpoint."""
    run = create(RunConfig(**{**OPTIONS, "runs_dir": str(folder), "name": "made", **settings}))
    metrics = dict.fromkeys(("grader", "miou", "silog", "loss", "semseg_loss", "depth_loss"), 1.0)
    facts = {"architecture": model.architecture, "spec": model.spec.to_dict(), "epoch": 1, "metrics": metrics}
    write_tensors(run.best, weights_of(model), facts)
    run.card.write_text("# A run\n", encoding="utf-8")
    return run
