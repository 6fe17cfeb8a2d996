"""A trained model, adapted to another dataset or other options."""

import inspect
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from mtl_keras.checkpoints import assign_weights, weights_of
from mtl_keras.data.spec import DataSpec
from mtl_keras.errors import UserError
from mtl_keras.model import MultiTaskModel
from zoo.builder import build

logger = logging.getLogger(__name__)


def adapt(model: MultiTaskModel, spec: DataSpec, options: Mapping[str, Any], source: str) -> MultiTaskModel:
    """A new model for a dataset, with all the weights of a trained one that mean the same there.

    With another number of classes the classes' channels of the last convolutions are new, and nothing else. With other
    depth statistics depth's channels are rescaled, so that the model says the same metres as before.

    Args:
        model: the trained one.
        spec: the dataset to train on.
        options: of `zoo.build`, to override the model's own; `weights` is none, for the model has its own.
        source: where the model is from, for messages.

    Raises:
        UserError: for options that the weights do not fit.
    """
    known = set(inspect.signature(build).parameters) - {"weights"}
    if unknown := sorted(set(options) - known):
        raise UserError(f"{unknown[0]}: no option of zoo.build that a trained model takes; leave it out")
    if not model.architecture:
        raise UserError(f"{source}: does not say how it was built; give a model that zoo.build made")
    target = build(**{**model.architecture, **options}, spec=spec)
    old, new = weights_of(model), weights_of(target)
    replaced = set()
    for name, fresh in new.items():
        layer, _, kind = name.rpartition("/")
        if name in old and layer.endswith("_predictor/predict"):
            new[name] = _predictor(old[name], fresh, model.spec, spec, is_bias=kind == "bias")
            replaced |= {layer} if new[name].shape != old[name].shape else set()
        else:
            new[name] = old.get(name, np.empty(0))
        if new[name].shape != fresh.shape:
            raise UserError(f"{source}: does not fit at '{name}'; it was built with {_in_words(model.architecture)}")
    if unused := sorted(set(old) - set(new)):
        raise UserError(f"{source}: has '{unused[0]}' besides; it was built with {_in_words(model.architecture)}")
    assign_weights(target, new)
    if replaced:
        counts = f"{spec.num_classes} classes instead of {model.spec.num_classes}"
        logger.info("%s: %s; their channels in %s are new", source, counts, ", ".join(sorted(replaced)))
    return target


def _predictor(old: np.ndarray, fresh: np.ndarray, old_spec: DataSpec, spec: DataSpec, *, is_bias: bool) -> np.ndarray:
    """The last convolution's kernel or bias: its channels are the classes', depth's, or first those and then this."""
    # Both must have one: a single channel is depth's, or, where there is a single class, perhaps semseg's.
    has_depth = old.shape[-1] in (1, old_spec.num_classes + 1) and fresh.shape[-1] in (1, spec.num_classes + 1)
    split = old.shape[-1] - has_depth
    classes, depth = old[..., :split], old[..., split:]
    if old_spec.num_classes != spec.num_classes and split:
        classes = fresh[..., : spec.num_classes]
    if (old_spec.depth_mean, old_spec.depth_std) != (spec.depth_mean, spec.depth_std):
        shift = old_spec.depth_mean - spec.depth_mean if is_bias else 0.0
        depth = (depth * old_spec.depth_std + shift) / spec.depth_std
    return np.concatenate([classes, depth], axis=-1)


def _in_words(architecture: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in architecture.items())
