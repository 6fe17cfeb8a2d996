"""Every measure of a split, gathered image by image on the host: counts in int64, errors in float64.

Nothing but sums is kept, so a split of any size fits. `results` names the variant of every measure, for the literature
uses one name for several: see `DEFINITIONS`.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from mtl_keras.data.spec import DataSpec
from mtl_keras.inference import Options, predict_batch
from mtl_keras.metrics import LEAST_DEPTH, grader
from mtl_keras.model import MultiTaskModel

# Metres of true depth between which errors are gathered apart.
BAND_EDGES = (10.0, 20.0, 40.0, 80.0)
CALIBRATION_BINS = 15

# What is summed over pixels; every depth measure is a function of the means of these.
_SUMS = ("d", "d²", "|d|", "e²", "|e|", "|e|/t", "e²/t", "(e/t)²", "i²", "|i|", "δ1", "δ2", "δ3")


@dataclasses.dataclass(frozen=True)
class Measure:
    """A depth measure over a set of pixels: its formula, its unit, and its value from the pixels' means."""

    formula: str
    unit: str
    of: Any


# p predicted, t true, both in metres and at least 0.01; d = ln p − ln t; e = p − t; i = 1/p − 1/t in 1/km.
MEASURES: Mapping[str, Measure] = {
    "silog": Measure("100·sqrt(mean(d²) − mean(d)²)", "", lambda m: 100 * math.sqrt(max(m["d²"] - m["d"] ** 2, 0))),
    "log_rmse": Measure("sqrt(mean(d²))", "ln", lambda m: math.sqrt(m["d²"])),
    "log_mae": Measure("mean(|d|)", "ln", lambda m: m["|d|"]),
    "log10_mae": Measure("mean(|d|) / ln 10", "log10", lambda m: m["|d|"] / math.log(10)),
    "rmse": Measure("sqrt(mean(e²))", "m", lambda m: math.sqrt(m["e²"])),
    "mae": Measure("mean(|e|)", "m", lambda m: m["|e|"]),
    "rel": Measure("mean(|e|/t)", "", lambda m: m["|e|/t"]),
    "sq_rel": Measure("mean(e²/t)", "m", lambda m: m["e²/t"]),
    "rel_squared": Measure("mean((e/t)²)", "", lambda m: m["(e/t)²"]),
    "inv_rmse": Measure("sqrt(mean(i²))", "1/km", lambda m: math.sqrt(m["i²"])),
    "inv_mae": Measure("mean(|i|)", "1/km", lambda m: m["|i|"]),
    "delta1": Measure("share with max(p/t, t/p) < 1.25", "%", lambda m: 100 * m["δ1"]),
    "delta2": Measure("share with max(p/t, t/p) < 1.25²", "%", lambda m: 100 * m["δ2"]),
    "delta3": Measure("share with max(p/t, t/p) < 1.25³", "%", lambda m: 100 * m["δ3"]),
}

DEFINITIONS: Mapping[str, str] = {
    "grader": "max(miou − 50, 0) + max(50 − silog, 0), of the plain miou and the mean of the images' silog",
    "miou": "plain mean over all classes, one in neither labels nor predictions counting 0, in %",
    "miou_present": "mean over the classes in labels or predictions, as cityscapesScripts has it, in %",
    "pixel_accuracy": "share of labelled pixels that are right, in %",
    "iou": "intersection over union over the whole split, in %",
    "calibration_error": f"expected calibration error over {CALIBRATION_BINS} equal bins of confidence, in %",
    "silog": "100·sqrt(mean(d²) − mean(d)²), d = ln p − ln t: KITTI's SILog",
    "sq_rel": "mean((p − t)²/t) in metres: squared relative error as in Eigen et al. 2014",
    "rel_squared": "mean(((p − t)/t)²): squared relative error as in KITTI's depth benchmark, there in %",
    "rel": "mean(|p − t|/t): absolute relative error",
    "log_rmse": "of natural logarithms",
    "mean_of_images": "of each image with valid depth, then the plain mean over these images (reference, KITTI)",
    "pooled": "over all valid pixels of the split together",
    "bands": "pooled over the pixels whose true depth lies in the band",
}


class DepthErrors:
    """Sums of depth errors: of every image for the mean over images, of all of them, and by band of true depth.

    Args:
        edges: metres between the bands.
    """

    def __init__(self, edges: Sequence[float] = BAND_EDGES):
        self.edges = tuple(edges)
        bands = len(self.edges) + 1
        self.counts = np.zeros(bands, np.int64)
        self.sums = np.zeros((len(_SUMS), bands), np.float64)
        self.images = 0
        self._image_totals = dict.fromkeys(MEASURES, 0.0)

    def add(self, true: np.ndarray, predicted: np.ndarray) -> None:
        """Adds an image: true and predicted metres, (height, width), where a true 0 is invalid."""
        true, predicted = np.asarray(true, np.float64), np.asarray(predicted, np.float64)
        valid = np.isfinite(true) & (true > 0)
        if not valid.any():
            return
        true, predicted = true[valid], predicted[valid]
        bands = np.digitize(true, self.edges)
        counts = np.bincount(bands, minlength=len(self.counts))
        sums = np.stack(
            [np.bincount(bands, terms, minlength=len(self.counts)) for terms in _pixel_terms(true, predicted)]
        )
        self.counts += counts
        self.sums += sums
        self.images += 1
        for name, value in _measures(sums.sum(axis=1), int(counts.sum())).items():
            self._image_totals[name] += value

    def mean_of_images(self) -> dict[str, float]:
        """Every measure, of each image with valid depth and then averaged; NaN if there is none."""
        return {name: total / self.images if self.images else math.nan for name, total in self._image_totals.items()}

    def pooled(self) -> dict[str, float]:
        """Every measure over all valid pixels together; NaN if there is none."""
        return _measures(self.sums.sum(axis=1), int(self.counts.sum()))

    def bands(self) -> dict[str, dict[str, float]]:
        """Every measure, and `pixels`, by band of true depth; bands without pixels are left out."""
        names = [f"{low:g}–{high:g} m" for low, high in zip((0, *self.edges), self.edges, strict=False)]
        names.append(f"over {self.edges[-1]:g} m" if self.edges else "all")
        found = zip(names, self.sums.T, self.counts, strict=True)
        return {name: {"pixels": int(count), **_measures(sums, int(count))} for name, sums, count in found if count}


def _pixel_terms(true: np.ndarray, predicted: np.ndarray) -> Iterable[np.ndarray]:
    """What `_SUMS` names, of each pixel."""
    true, predicted = np.maximum(true, LEAST_DEPTH), np.maximum(predicted, LEAST_DEPTH)
    d, e = np.log(predicted / true), predicted - true
    i, relative = 1000 / predicted - 1000 / true, np.abs(e) / true
    yield from (d, d**2, np.abs(d), e**2, np.abs(e), relative, e**2 / true, relative**2, i**2, np.abs(i))
    ratio = np.maximum(predicted / true, true / predicted)
    yield from (ratio < 1.25**power for power in (1, 2, 3))


def _measures(sums: np.ndarray, count: int) -> dict[str, float]:
    if not count:
        return dict.fromkeys(MEASURES, math.nan)
    means = dict(zip(_SUMS, (sums / count).tolist(), strict=True))
    return {name: float(measure.of(means)) for name, measure in MEASURES.items()}


class SemsegErrors:
    """The confusion matrix of a split and how far the confidence of its predictions can be trusted.

    Args:
        num_classes: number of classes; any label outside 0 … num_classes − 1 is ignored. Such a predicted id is a
            miss of the true class.
    """

    def __init__(self, num_classes: int):
        self.num_classes = num_classes
        # A column more than classes, for predicted ids that are none.
        self._counts = np.zeros((num_classes, num_classes + 1), np.int64)
        self.bin_counts = np.zeros(CALIBRATION_BINS, np.int64)
        self.bin_correct = np.zeros(CALIBRATION_BINS, np.int64)
        self.bin_confidence = np.zeros(CALIBRATION_BINS, np.float64)

    def add(self, labels: np.ndarray, ids: np.ndarray, confidence: np.ndarray | None = None) -> None:
        """Adds true and predicted ids, (height, width), and the probability of the latter."""
        labels, ids = np.asarray(labels, np.int64), np.asarray(ids, np.int64)
        valid = (labels >= 0) & (labels < self.num_classes)
        is_class = (ids[valid] >= 0) & (ids[valid] < self.num_classes)
        cells = labels[valid] * (self.num_classes + 1) + np.where(is_class, ids[valid], self.num_classes)
        self._counts += np.bincount(cells, minlength=self._counts.size).reshape(self._counts.shape)
        if confidence is not None:
            # A diverged model is sure of nothing.
            confidence = np.nan_to_num(np.asarray(confidence, np.float64)[valid])
            bins = np.minimum((confidence * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)
            self.bin_counts += np.bincount(bins, minlength=CALIBRATION_BINS)
            self.bin_correct += np.bincount(bins[labels[valid] == ids[valid]], minlength=CALIBRATION_BINS)
            self.bin_confidence += np.bincount(bins, confidence, minlength=CALIBRATION_BINS)

    @property
    def confusion(self) -> np.ndarray:
        """Pixels by true and predicted class, (classes, classes) int64, less those predicted as none of the classes."""
        return self._counts[:, :-1]

    def iou(self) -> np.ndarray:
        """Intersection over union of each class in percent; NaN for one in neither labels nor predictions."""
        both = np.diag(self.confusion).astype(np.float64)
        either = self.confusion.sum(axis=0) + self._counts.sum(axis=1) - both
        return 100 * np.divide(both, either, out=np.full(self.num_classes, np.nan), where=either > 0)

    def calibration_error(self) -> float:
        """Expected calibration error in percent (Guo et al. 2017, https://arxiv.org/abs/1706.04599)."""
        return 100 * float(np.abs(self.bin_confidence - self.bin_correct).sum() / max(self.bin_counts.sum(), 1))

    def results(self, classes: Sequence[str]) -> dict[str, Any]:
        """All measures by name."""
        iou, pixels = self.iou(), int(self._counts.sum())
        present = iou[~np.isnan(iou)]
        return {
            "miou": float(np.nan_to_num(iou).mean()) if pixels else math.nan,
            "miou_present": float(present.mean()) if len(present) else math.nan,
            "pixel_accuracy": 100 * float(np.trace(self.confusion)) / pixels if pixels else math.nan,
            "calibration_error": self.calibration_error() if self.bin_counts.any() else math.nan,
            "iou": dict(zip(classes, iou.tolist(), strict=True)),
            "pixels": pixels,
        }


class Evaluation:
    """What was gathered of a split.

    Args:
        spec: the dataset's facts.
    """

    def __init__(self, spec: DataSpec):
        self.spec = spec
        self.semseg = SemsegErrors(spec.num_classes)
        self.depth = DepthErrors()

    def add(self, labels: Mapping[str, np.ndarray], predictions: Sequence[Any]) -> None:
        """Adds a batch: labels as the loader gives them, and a `Prediction` of each image."""
        for index, prediction in enumerate(predictions):
            self.semseg.add(labels["semseg"][index], prediction.semseg, prediction.confidence)
            self.depth.add(labels["depth"][index].reshape(prediction.depth.shape), prediction.depth)

    def results(self) -> dict[str, Any]:
        """All measures: `grader`, `miou` and `silog`, then `semseg`, `depth` and the `definitions` of their names."""
        semseg, per_image = self.semseg.results(self.spec.classes), self.depth.mean_of_images()
        return {
            "grader": float(keras.ops.convert_to_numpy(grader(semseg["miou"], per_image["silog"]))),
            "miou": semseg["miou"],
            "silog": per_image["silog"],
            "semseg": semseg,
            "depth": {
                "mean_of_images": per_image,
                "pooled": self.depth.pooled(),
                "bands": self.depth.bands(),
                "images": self.depth.images,
                "pixels": int(self.depth.counts.sum()),
            },
            "definitions": dict(DEFINITIONS),
        }


def evaluate(model: MultiTaskModel, batches: Iterable, options: Options | None = None) -> Evaluation:
    """Predicts batches and gathers every measure of the final predictions.

    Args:
        model: the model.
        batches: pairs of images (batch, height, width, 3) and labels: `semseg` (batch, height, width), 255 = ignore,
            and `depth` (batch, height, width, 1) metres, 0 = invalid.
        options: how to predict.
    """
    options = dataclasses.replace(options or Options(), confidence=True)
    evaluation = Evaluation(model.spec)
    for images, labels in batches:
        evaluation.add(labels, predict_batch(model, images, options))
    return evaluation
