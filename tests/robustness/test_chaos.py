"""A run that is killed again and again is the run that nothing interrupted: the short form of `benchmarks.chaos`."""

import numpy as np

from benchmarks import chaos
from benchmarks.chaos import Kill, Outcome, planned


def test_a_run_under_fire_ends_as_if_nothing_had_happened(tmp_path):
    outcome = chaos.chaos(tmp_path, kills=3, epochs=10, seed=2, kinds=("save", "epoch's end", "SIGTERM"))
    assert outcome.kills == {"save": 1, "epoch's end": 1, "SIGTERM": 1}
    assert outcome.equal, chaos.report(outcome, 10)
    assert max(outcome.repeated) <= 2 * chaos.SAVE_STEPS
    assert max(outcome.seconds_to_stop) < chaos.SECONDS_TO_STOP


def test_every_kind_of_kill_has_its_turn():
    plan = planned(50, 300, np.random.default_rng(0), chaos.KINDS)
    assert len(plan) == 50 and [kill.step for kill in plan] == sorted(kill.step for kill in plan)
    assert {kind: sum(kill.kind == kind for kill in plan) for kind in chaos.KINDS} == dict.fromkeys(chaos.KINDS, 10)
    assert all(isinstance(kill, Kill) and 1 <= kill.step < 290 for kill in plan)


def test_a_row_too_few_or_too_many_is_found():
    outcome = Outcome()
    chaos._compare_steps("metrics.csv", [1, 2, 2, 4], [1, 2, 3, 4], outcome)
    assert outcome.lost == ["metrics.csv: epoch 3"] and outcome.doubled == ["metrics.csv: epoch 2"]
    assert not outcome.equal
    outcome = Outcome()
    one, other = np.zeros(2, "float32"), np.array([0, 1e-45], "float32")
    chaos._compare_arrays("state", {"a": one, "b": one}, {"a": one, "b": other}, outcome)
    assert outcome.differences == ["state: b differs"]
