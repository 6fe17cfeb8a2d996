"""Whether an export says what the model says, found out in a process that has only the export's runtime."""

import dataclasses
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mtl_keras.errors import UserError
from mtl_keras.exporting import runtimes
from mtl_keras.inference import Options, predict_batch
from mtl_keras.model import MultiTaskModel

LEAST_SAME_IDS = 0.999
MOST_DEPTH_ERROR = 1e-3


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How an export's outputs differ from the model's own predictions.

    Args:
        same_ids: share of pixels whose class is the same.
        depth_error: the largest difference of a pixel's metres, relative to the model's.
        logit_error: the largest difference of a logit, relative to the largest logit; None for an export of ids.
        latency: the median seconds for the first of the images.
    """

    same_ids: float
    depth_error: float
    logit_error: float | None
    latency: float

    @property
    def within_tolerance(self) -> bool:
        """At least 99.9 % of the classes are the same, and metres within 1e-3."""
        return self.same_ids >= LEAST_SAME_IDS and self.depth_error <= MOST_DEPTH_ERROR


def compare(model: MultiTaskModel, kind: str, path: Path, images: Sequence[np.ndarray]) -> Agreement:
    """Runs an export with its runtime and compares it with `predict_images`.

    Args:
        model: the model that was exported.
        kind: the format.
        path: the export.
        images: batches, (batch, height, width, 3) uint8.

    Raises:
        UserError: the runtime is missing, or cannot load or run the export.
    """
    outputs = run(kind, path, images)
    same, pixels, depth_error, logit_errors = 0, 0, 0.0, []
    for index, batch in enumerate(images):
        expected = predict_batch(model, batch, Options(logits=True))
        ids, depth = (np.stack([getattr(item, name) for item in expected]) for name in ("semseg", "depth"))
        semseg, metres = outputs[f"semseg_{index}"], outputs[f"depth_{index}"][..., 0]
        if semseg.shape[:3] != ids.shape or metres.shape != depth.shape:
            raise UserError(f"{path}: gives {semseg.shape} for images of {ids.shape}, a fault of the conversion")
        if semseg.ndim == 4:
            logits = np.stack([item.logits for item in expected if item.logits is not None])
            logit_errors.append(float(np.abs(semseg - logits).max() / np.abs(logits).max()))
            semseg = semseg.argmax(axis=-1)
        same, pixels = same + int(np.sum(semseg == ids)), pixels + ids.size
        depth_error = max(depth_error, float(np.max(np.abs(metres - depth) / depth)))
    logit_error = max(logit_errors) if logit_errors else None
    return Agreement(same / pixels, depth_error, logit_error, float(outputs["latency"]))


def run(kind: str, path: Path, images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of an export, `semseg_0`, `depth_0`, …, and its `latency` (see `runtimes`)."""
    with tempfile.TemporaryDirectory() as scratch:
        given, returned = Path(scratch) / "images.npz", Path(scratch) / "outputs.npz"
        np.savez(given, allow_pickle=False, **{f"image_{index}": batch for index, batch in enumerate(images)})
        command = [sys.executable, runtimes.__file__, kind, str(path), str(given), str(returned)]
        environment = {**os.environ, "PYTHONPATH": _library() if kind == "keras" else ""}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise UserError(f"{path}: its runtime cannot run it ({reason}); install the runtime, or mend the export")
        with np.load(returned) as outputs:
            return dict(outputs)


def _library() -> str:
    return str(Path(__file__).parents[2])


def sample_images(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Coarse patterns under noise, (count, height, width, 3) uint8: plain noise looks the same to deep features."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (count, -(-height // 16), -(-width // 16), 3)).repeat(16, axis=1).repeat(16, axis=2)
    noise = rng.uniform(0, 255, (count, height, width, 3))
    return (0.75 * coarse[:, :height, :width] + 0.25 * noise).astype(np.uint8)
