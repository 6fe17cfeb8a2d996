"""Files that are either whole or not there."""

import os
import subprocess
import sys

import pytest

from mtl_keras.files import new_folder, remove_half_written, replacing


def test_a_file_is_as_readable_as_the_umask_has_it(tmp_path):
    script = "import os; from mtl_keras.files import write_text; os.umask(0o077); write_text('private', 'x')"
    subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.getcwd()}, check=True
    )
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600


def test_what_fails_leaves_the_old_file_and_nothing_beside(tmp_path):
    path = tmp_path / "kept.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as beside:
        beside.write_text("new")
        _ = 1 / 0
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_known_from_other_hidden_files(tmp_path):
    others = [".gitignore", ".notes-2026", ".best-0123456.safetensors", "best-01234567.safetensors"]
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / ".folder-01234567").mkdir()
    script = """
import os, sys
from mtl_keras.files import replacing
writing = [replacing(name) for name in sys.argv[1:]]
for file in writing:
    file.__enter__()
os._exit(0)
"""
    killed = [sys.executable, "-c", script, "best.safetensors", "lock", "a name longer than sixteen.tar.gz"]
    subprocess.run(killed, cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.getcwd()}, check=True)
    assert len(list(tmp_path.iterdir())) == len(others) + 1 + 3
    remove_half_written(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*others, ".folder-01234567"}
    remove_half_written(tmp_path / "that is not there")


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "evaluations" / "val"
    with pytest.raises(ZeroDivisionError), new_folder(path) as beside:
        (beside / "half").touch()
        raise ZeroDivisionError
    assert not list(path.parent.iterdir())
    with new_folder(path) as beside:
        (beside / "whole").touch()
        assert not path.exists()
    assert list(path.parent.iterdir()) == [path] and list(path.iterdir()) == [path / "whole"]
