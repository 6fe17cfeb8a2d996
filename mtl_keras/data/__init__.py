"""Datasets, views of their samples, and the loader that feeds Keras."""

import importlib
from typing import Any

from mtl_keras.data.spec import CITYSCAPES_COLORS, IGNORE_LABEL, MINISCAPES, DataSpec

# Imported on first use: TFDS and Grain take a second that a model does not need.
_LAZY = {
    "load": "loading",
    "load_splits": "loading",
    "make_builder": "loading",
    "prepare": "loading",
    "Dataset": "dataset",
    "TrainView": "views",
    "EvalView": "views",
    "Loader": "loader",
    "open_cache": "cache",
    "Statistics": "statistics",
    "measure_statistics": "statistics",
    "store_statistics": "statistics",
    "stored_statistics": "statistics",
    "encode_inverse_depth": "depth_encoding",
    "decode_depth": "depth_encoding",
}

__all__ = ["CITYSCAPES_COLORS", "IGNORE_LABEL", "MINISCAPES", "DataSpec", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
