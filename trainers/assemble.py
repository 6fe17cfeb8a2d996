"""From a configuration to the parts of a run: datasets, loaders, model and optimizer."""

import dataclasses
import functools
import logging
from typing import Any

import keras

import zoo
from mtl_keras import backend, data, optimizers
from mtl_keras.data.cache import usual_cache
from mtl_keras.data.folder import DEPTH_UNIT
from mtl_keras.encoders import freeze_batch_norm
from mtl_keras.errors import UserError
from mtl_keras.losses import TASKS
from mtl_keras.model import MultiTaskModel
from trainers import devices
from trainers.config import RunConfig
from zoo.builder import ARCHITECTURE

logger = logging.getLogger(__name__)

VIEW_OPTIONS = tuple(field.name for field in dataclasses.fields(data.TrainView))


@dataclasses.dataclass(frozen=True)
class Splits:
    """The loaders of a run: crops to train on, whole images to validate with."""

    train: data.Loader
    val: data.Loader


def make_splits(config: RunConfig, parallel: backend.Parallel) -> Splits:
    """Prepares the dataset where that is still to be done and the network can be built, and opens its splits.

    Args:
        config: the run, whose batches are the global ones.
        parallel: the devices that share them.
    """
    devices.check(config, parallel)
    view = data.TrainView(**{name: getattr(config, name) for name in VIEW_OPTIONS})
    # A network that cannot be built is told of before data is prepared for it.
    check = functools.partial(make_model, config, None)
    splits = data.load_splits(config.dataset, ("train", "val"), before_preparing=check, **config.source)
    train, val = splits.values()
    if not train.tasks:
        raise UserError(
            f"{train.name} train has no label at all, of neither task, so that nothing can be learned; put its labels "
            "where they are looked for (README, Your data)"
        )
    for task in TASKS:
        for split, effect in ((train, "nothing is learned of it"), (val, "its metrics are NaN")):
            if task not in split.tasks:
                least, greatest = split.spec.depth_range
                what = f"depth label within {least:g} to {greatest:g} m" if task == "depth" else "semseg label"
                if task == "depth" and split.name == "folder":
                    effect += f"; {DEPTH_UNIT}"
                logger.warning("%s %s has no %s at all: %s", split.name, split.split, what, effect)
    count = backend.process_count()
    # Padding costs nothing in validation, so there a batch that the devices can share is made of any.
    val_batch_size = -(-min(config.val_batch_size, len(val)) // parallel.total) * parallel.total
    cache = usual_cache(config.workers, count) if config.cache == "ram" else config.cache
    shared: dict[str, Any] = {
        "cache": cache,
        "cache_dir": config.cache_dir,
        "workers": config.workers,
        "process_index": backend.process_index(),
        "process_count": count,
    }
    whole = {"shuffle": False, "drop_remainder": False, **shared}
    return Splits(
        train=data.Loader(train, config.batch_size // count, view, seed=config.seed, **shared),
        val=data.Loader(val, val_batch_size // count, data.EvalView(), **whole),
    )


def make_model(config: RunConfig, spec: data.DataSpec | None) -> MultiTaskModel:
    """The model of a run for a dataset, or for any where it is None, its weights drawn by the run's seed or loaded."""
    backend.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.precision)
    options = {name: getattr(config, name) for name in ARCHITECTURE}
    if config.init_from:
        model = zoo.load(config.init_from, spec=spec, **options)
    else:
        model = zoo.build(**options, spec=spec, weights=config.pretrained)
    if config.freeze_batch_norm:
        freeze_batch_norm(model.get_layer("encoder"))
    stride = model.output_stride
    if any(side % stride for side in config.crop):
        height, width = (-(-side // stride) * stride for side in config.crop)
        raise UserError(
            f"crop: {config.crop[0]},{config.crop[1]} is not a multiple of the output stride {stride}; "
            f"give {height},{width}"
        )
    return model


def make_optimizer(config: RunConfig, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The optimizer of a run, its learning rate under the poly schedule."""
    rate = optimizers.PolyDecay(config.learning_rate, config.epochs, steps_per_epoch)
    options: dict[str, Any] = {
        "weight_decay": config.weight_decay,
        # Named, or a process's second optimizer would name its state otherwise, and no other process could resume it.
        "name": config.optimizer,
        "gradient_accumulation_steps": config.accumulate if config.accumulate > 1 else None,
        "global_clipnorm": config.clip_norm,
        "ema": config.ema,
        "skip_non_finite": config.on_nan == "skip",
    }
    frozen_steps = config.freeze_encoder_epochs * steps_per_epoch // config.accumulate
    encoder = optimizers.Group(config.encoder_lr_scale, frozen_steps)
    if encoder != optimizers.Group():
        options["groups"] = {"encoder/": encoder}
    if config.optimizer == "sgd":
        return optimizers.SGD(rate, momentum=config.momentum, **options)
    if config.optimizer == "adam":
        return optimizers.Adam(rate, **options)
    return optimizers.AdamW(rate, **options)


def compile_model(config: RunConfig, model: MultiTaskModel, steps_per_epoch: int) -> None:
    """Sets a model up for training as the configuration says."""
    # Training has few sizes of batches.
    backend.try_kernels()
    model.compile(
        make_optimizer(config, steps_per_epoch),
        loss_weights={"semseg": config.loss_weight_semseg, "depth": config.loss_weight_depth},
        jit_compile=config.jit_compile or "auto",
    )
