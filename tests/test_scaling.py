"""The arithmetic of docs/scaling.md: its closed form, and that its tables are what the script prints."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.scaling import Interconnect, Scaling
from mtl_keras.errors import UserError

ROOT = Path(__file__).parents[1]


def test_one_machine_is_the_ring_all_reduce():
    link = Interconnect(node=8, inside=100e9, between=1.0, latency_inside=1e-6, latency_between=1.0)
    assert link.ring(800e6, 1) == 0
    assert link.ring(800e6, 8) == pytest.approx(2 * 7 / 8 * 800e6 / 100e9 + 14e-6)


def test_machines_send_their_devices_parts_at_once():
    link = Interconnect(node=8, inside=100e9, between=10e9, latency_inside=0.0, latency_between=5e-6)
    within, part = 2 * 7 / 8 * 800e6 / 100e9, 800e6 / 8
    assert link.ring(800e6, 32) == pytest.approx(within + 2 * 3 / 4 * part / 10e9 + 6 * 5e-6)


def test_the_time_is_bounded_however_many_devices():
    """Without latency: at most twice the bytes through the slower link."""
    link = Interconnect(node=1, inside=1.0, between=10e9, latency_inside=0.0, latency_between=0.0)
    assert link.ring(1e9, 4096) == pytest.approx(0.2, rel=1e-3)


def test_a_small_sum_takes_a_tree_up_and_down():
    link = Interconnect(node=8, inside=1.0, between=1.0, latency_inside=1e-6, latency_between=10e-6)
    assert [link.tree(count) for count in (1, 8, 512)] == pytest.approx([0, 6e-6, 6e-6 + 2 * 6 * 10e-6])


def test_what_the_backward_pass_hides_costs_nothing():
    link = Interconnect(node=8, inside=100e9, between=10e9, latency_inside=0.0, latency_between=0.0)
    shown, hidden = (Scaling(0.1, 8e9, 0, share, link) for share in (0.0, 2 / 3))
    assert shown.seconds(8) == pytest.approx(0.1 + 0.14)
    assert hidden.seconds(8) == pytest.approx(0.1 + 0.14 - 0.2 / 3)
    assert Scaling(0.1, 1e6, 0, 2 / 3, link).efficiency(512) == 1


def test_a_machine_that_is_not_full_is_refused():
    with pytest.raises(UserError, match="12 devices do not fill machines of 8"):
        Interconnect(8, 1.0, 1.0, 0.0, 0.0).ring(1.0, 12)


def test_the_tables_of_the_page_are_those_that_are_printed():
    page = (ROOT / "docs" / "scaling.md").read_text()
    shown = re.findall(r"```sh\npython -m (benchmarks\.scaling .*?)\n```\n\n(\|.*?\|)\n\n", page, re.DOTALL)
    assert len(shown) == 3
    for command, table in shown:
        arguments = shlex.split(command.replace("\\\n", " "))
        done = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == table
