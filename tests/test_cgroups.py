"""Limits of control groups, from files as Linux shows them."""

import math

import pytest

from mtl_keras import backend
from mtl_keras.backend import cgroups

MIB = 2**20


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """A pod's group within that of all pods; writes the files of one."""
    root, own = tmp_path / "cgroup", tmp_path / "own"
    (root / "pods" / "one").mkdir(parents=True)
    own.write_text("0::/pods/one\n")
    monkeypatch.setattr(cgroups, "_ROOT", root)
    monkeypatch.setattr(cgroups, "_OWN", own)

    def write(group, **files):
        for name, text in files.items():
            (root / group / name.replace("_", ".", 1)).write_text(text)

    return write


def test_nothing_limits_where_no_file_says_so(groups):
    assert cgroups.memory_left() == cgroups.cores() == math.inf
    groups("pods/one", memory_max="max\n", cpu_max="max 100000\n")
    assert cgroups.memory_left() == cgroups.cores() == math.inf


def test_the_tightest_group_limits_memory_and_cached_files_do_not_count(groups):
    stat = f"anon {300 * MIB}\nactive_file {50 * MIB}\ninactive_file {150 * MIB}\n"
    groups("pods/one", memory_max=str(1000 * MIB), memory_current=str(500 * MIB), memory_stat=stat)
    assert cgroups.memory_left() == 700 * MIB
    groups("pods", memory_max=str(900 * MIB), memory_current=str(800 * MIB), memory_stat=stat)
    assert cgroups.memory_left() == 300 * MIB


def test_a_share_of_the_cores_is_rounded_up(groups, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(64)), raising=False)
    assert backend.cores() == 64
    groups("pods/one", cpu_max="250000 100000\n")
    assert cgroups.cores() == 2.5 and backend.cores() == 3
    groups("pods/one", cpu_max="5000 100000\n")
    assert backend.cores() == 1
