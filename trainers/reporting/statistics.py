"""How far runs differ, and how far they would by their seeds alone."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np

from trainers.reporting.results import StudyResults
from zoo.study import LOWER_IS_BETTER, Expected

# A difference beyond so many standard errors is taken for real.
STANDARD_ERRORS = 2.0


@dataclasses.dataclass(frozen=True)
class Spread:
    """What a metric is over the seeds of one variant.

    Args:
        mean: the mean.
        std: the sample standard deviation; None for a single seed.
    """

    mean: float
    std: float | None


def spread(values: Sequence[float]) -> Spread | None:
    """The spread of a metric; None of no values."""
    if not values:
        return None
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(float(np.mean(values)), std)


@dataclasses.dataclass(frozen=True)
class Noise:
    """The standard deviation of a metric over seeds, pooled over all variants that have more than one.

    Args:
        std: √(Σ (n−1)·s² / Σ (n−1)) over the variants' n seeds and sample deviations s.
        degrees: Σ (n−1), the degrees of freedom that it is estimated with.
    """

    std: float
    degrees: int


def pooled_noise(studies: Iterable[StudyResults], metric: str) -> Noise | None:
    """The noise of seeds in all of some studies; None where no variant has a second seed."""
    squares, degrees = 0.0, 0
    # A run that two studies share counts once.
    groups = {}
    for results in studies:
        for variant in results.study.variants:
            runs = frozenset(result.facts.run for result in results.of(variant.name))
            groups[runs] = results.values(variant.name, metric)
    for values in groups.values():
        if len(values) > 1:
            squares += float(np.var(values, ddof=1)) * (len(values) - 1)
            degrees += len(values) - 1
    return Noise(math.sqrt(squares / degrees), degrees) if degrees else None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether an expected ordering holds.

    Args:
        expected: the ordering.
        difference: by how much the one that should be better is; negative if it is worse; None if one was not run.
        error: the standard error of this difference; None without a second seed anywhere.
        text: "holds", "within seed noise", "fails", "holds, one seed", "fails, one seed" or "no result".
    """

    expected: Expected
    difference: float | None
    error: float | None
    text: str


def judge(expected: Expected, results: StudyResults, noise: Noise | None) -> Verdict:
    """Holds an expected ordering against the results.

    The difference of two means is real where it is beyond two standard errors, σ·√(1/n₁ + 1/n₂) with the pooled noise
    of seeds σ. Graders are compared before they are clamped, as mIoU − SI-logRMSE.
    """
    metric = compared_metric(expected.metric)
    better, worse = (results.values(name, metric) for name in (expected.better, expected.worse))
    if not better or not worse:
        return Verdict(expected, None, None, "no result")
    difference = float(np.mean(better) - np.mean(worse))
    if metric in LOWER_IS_BETTER:
        difference = -difference
    side = "holds" if difference > 0 else "fails"
    if noise is None:
        return Verdict(expected, difference, None, f"{side}, one seed")
    error = noise.std * math.sqrt(1 / len(better) + 1 / len(worse))
    real = abs(difference) > STANDARD_ERRORS * error
    return Verdict(expected, difference, error, side if real else "within seed noise")


def compared_metric(metric: str) -> str:
    """What a metric is compared by."""
    return "difference" if metric == "grader" else metric
