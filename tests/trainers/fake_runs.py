"""Run folders as a finished, a stopped and a failed run leave them, without any training."""

import csv
import dataclasses

import numpy as np
import safetensors.numpy

from trainers.config import RunConfig
from trainers.run_folder import RunFolder, create

PARAMETERS = 12


def rows(epochs: int, miou: float, silog: float, seconds: float = 60.0) -> list[dict[str, float]]:
    """Epochs that approach the metrics and reach them in the last one."""
    table = []
    for epoch in range(1, epochs + 1):
        part = epoch / epochs
        values = {"val_miou": miou * part, "val_silog": silog + 40 * (1 - part), "loss": 2 - part}
        values["val_grader"] = max(values["val_miou"] - 50, 0) + max(50 - values["val_silog"], 0)
        table.append({"epoch": epoch, "step": 10 * epoch, "seconds": seconds * epoch, **values})
    return table


def write_rows(run: RunFolder, table: list[dict[str, float]]) -> None:
    with open(run.metrics, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(table[0]))
        writer.writeheader()
        writer.writerows(table)


def finished(config: RunConfig, miou: float = 60.0, silog: float = 30.0, **of_rows) -> RunFolder:
    """A run that reached these metrics in its last epoch."""
    run = stopped(config, miou, silog, **of_rows)
    run.model.write_bytes(b"a model")
    run.card.write_text(
        f"# {run.path.name}\n\njoint topology on resnet18, 12 trainable parameters, trained on streets for "
        f"{config.epochs} epochs in 4 m 0 s (jax 1.2.3 on cpu (2 cores)).\n",
        encoding="utf-8",
    )
    return run


def stopped(config: RunConfig, miou: float = 60.0, silog: float = 30.0, **of_rows) -> RunFolder:
    """A run that has a state to go on from."""
    run = create(config)
    write_rows(run, rows(config.epochs, miou, silog, **of_rows))
    run.checkpoints.mkdir()
    weights = {
        "encoder/conv/kernel": np.zeros((3, 4), "float32"),
        "encoder/norm/moving_mean": np.zeros(4, "float32"),
        "encoder/norm/moving_variance": np.zeros(4, "float32"),
    }
    run.best.write_bytes(safetensors.numpy.save(weights))
    (run.checkpoints / "step-0000000010-0123456789abcdef.safetensors").write_bytes(b"a state")
    return run


def named(config: RunConfig, name: str) -> RunConfig:
    return dataclasses.replace(config, name=name)
