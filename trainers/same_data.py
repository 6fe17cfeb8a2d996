"""Whether a run that goes on has the data that it began with; where that lies may have changed."""

import math
from typing import Any

from mtl_keras.errors import UserError
from trainers.assemble import Splits

# Of depth statistics, which machines may sum up in another order.
_TOLERANCE = 1e-5


def facts_of(splits: Splits) -> dict[str, Any]:
    """What is kept of a run's data, by the words that people know it by."""
    train, val = splits.train.dataset, splits.val.dataset
    depth = train.measured_depth or {}
    return {
        "dataset": train.spec.name,
        "classes": list(train.spec.classes),
        "depth range": list(train.spec.depth_range),
        "mean depth": depth.get("depth_mean"),
        "deviation of depth": depth.get("depth_std"),
        "training images": len(train),
        "validation images": len(val),
    }


def check(began_with: dict[str, Any], splits: Splits) -> None:
    """Refuses other data: an epoch would have other steps, or a metre another meaning.

    Args:
        began_with: `facts_of` the run's first data; empty where it was not kept.
        splits: the data now.

    Raises:
        UserError: what differs.
    """
    now = facts_of(splits)
    changed = [name for name, fact in began_with.items() if not _equal(fact, now.get(name))]
    if changed:
        differences = ", ".join(f"{name} {_said(began_with[name])}, now {_said(now.get(name))}" for name in changed)
        raise UserError(
            f"resume: the data is not what the run began with ({differences}); put that back, or name its folder with "
            "--data_dir; to train on with this data, start a run with --init_from"
        )


def _equal(fact: Any, other: Any) -> bool:
    if isinstance(fact, float) and isinstance(other, float):
        return math.isclose(fact, other, rel_tol=_TOLERANCE)
    return fact == other


def _said(fact: Any) -> str:
    text = f"{len(fact)}: {', '.join(map(str, fact))}" if isinstance(fact, list) else f"{fact}"
    return text if len(text) <= 60 else f"{text[:59]}…"
