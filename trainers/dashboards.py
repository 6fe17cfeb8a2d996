"""What TensorBoard shows of a run beside its curves and pictures: charts, hyper-parameters, the model's graph."""

import dataclasses
from typing import Any

from mtl_keras.event_writer import EventWriter
from mtl_keras.model import MultiTaskModel
from mtl_keras.model_graph import model_graph
from trainers.config import RunConfig
from trainers.run_folder import RunFolder
from trainers.scheduling.plan import INCIDENTAL

_BEST = ("grader", "miou", "silog")
_RESULTS = ".results"


def begin(writer: EventWriter, config: RunConfig, model: MultiTaskModel) -> None:
    """Lays out the report's three curves for all runs, and enters the run and its model."""
    writer.custom_scalars_layout()
    writer.hparams(_settings(config))
    writer.graph(model_graph(model))
    writer.flush()


def end(run: RunFolder, config: RunConfig, best: dict[str, Any]) -> None:
    """Enters what the best epoch came to.

    Args:
        run: the run, which has ended.
        config: its settings.
        best: `epoch` and validation `metrics`.
    """
    metrics = {f"best/val_{name}": best["metrics"][name] for name in _BEST}
    # A run that was killed on its last metres comes here again.
    for earlier in run.tensorboard.glob(f"*{_RESULTS}"):
        earlier.unlink()
    with EventWriter(run.tensorboard, suffix=_RESULTS) as writer:
        writer.hparams(_settings(config), metrics, step=best["epoch"])


def _settings(config: RunConfig) -> dict[str, Any]:
    """What a run is compared by: not where it reads and writes."""
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in INCIDENTAL}
