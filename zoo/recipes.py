"""Recipes: the hyper-parameters of a run, as data.

A recipe sets fields of the run's configuration; a flag on the command line overrides it.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Settings of a run, and what they should reach.

    Args:
        about: what it is for, in one line.
        expect: what a run of it reaches, where, and in what time; measured, or printed in the report.
        settings: values of the configuration's fields.
    """

    about: str
    expect: str
    settings: Mapping[str, Any]


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "report": Recipe(
            about="the report's final settings, and its framework's; its encoder is --pretrained imagenet",
            expect="Miniscapes, test: grader 69.31 with distillation (report, Table 8); 14 h 34 m on the report's GPU",
            settings={
                "optimizer": "adam",
                "learning_rate": 1e-4,
                "weight_decay": 1e-4,
                "batch_size": 4,
                "epochs": 16,
                "crop": (256, 256),
                "loss_weight_semseg": 0.5,
                "loss_weight_depth": 0.5,
            },
        ),
        "demo": Recipe(
            about="the built-in dataset in minutes, on two CPU cores",
            expect="mIoU 25 %, SI-logRMSE 42.5 (untrained 0.4 and 73.1), grader 7.5; 8 to 18 minutes under JAX",
            settings={
                "optimizer": "adam",
                "learning_rate": 7e-4,
                "weight_decay": 1e-4,
                "batch_size": 8,
                "epochs": 10,
                "crop": (128, 128),
                "loss_weight_semseg": 0.5,
                "loss_weight_depth": 0.5,
                "horizontal_flip": True,
                "export": True,
                "baseline": True,
            },
        ),
        "study": Recipe(
            about="small enough to run all of the report's studies on two CPU cores",
            expect="mIoU 39.5 %, SI-logRMSE 37.7 (joint, dilated, pretrained); 9 minutes on one busy core under JAX",
            settings={
                "encoder": "resnet18",
                "optimizer": "adam",
                "learning_rate": 5e-4,
                "weight_decay": 1e-4,
                "batch_size": 4,
                "epochs": 12,
                "crop": (96, 96),
                "loss_weight_semseg": 0.5,
                "loss_weight_depth": 0.5,
            },
        ),
    }
)


def default_recipe(dataset: str) -> str:
    """The recipe of a run that names none: "demo" for the built-in dataset's demo size, "report" for any other."""
    return "demo" if dataset in ("streets", "streets/demo") else "report"
