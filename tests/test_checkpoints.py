from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from mtl_keras.checkpoints import StateFiles, read_tensors, write_tensors


def test_arrays_come_back_whatever_the_order_of_their_memory(tmp_path):
    """PyTorch's weights lie channels last."""
    array = np.arange(24.0, dtype="float32").reshape(2, 3, 4).transpose(2, 0, 1)
    write_tensors(tmp_path / "best.safetensors", {"kernel": array, "step": np.array(3)}, {"epoch": 1})
    kept, facts = read_tensors(tmp_path / "best.safetensors")
    np.testing.assert_array_equal(kept["kernel"], array)
    assert kept["step"].shape == () and kept["step"] == 3 and facts == {"epoch": 1}

    files = StateFiles(tmp_path)
    files.save(1, {"kernel": array}, {})
    np.testing.assert_array_equal(files.load()[1]["kernel"], array)


class TestStateFiles:
    STATE: ClassVar = {"kernel": np.arange(6.0, dtype="float32")}

    def steps(self, folder) -> list[int]:
        return sorted(int(path.name.split("-")[1]) for path in folder.glob("step-*"))

    def damage(self, path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)

    def test_the_newest_two_stay(self, tmp_path):
        files = StateFiles(tmp_path)
        for step in (1, 2, 3):
            files.save(step, self.STATE, {})
        assert self.steps(tmp_path) == [2, 3] and files.load()[0] == 3

    def test_a_damaged_state_takes_nobodys_place(self, tmp_path):
        StateFiles(tmp_path).save(1, self.STATE, {})
        self.damage(StateFiles(tmp_path).save(2, self.STATE, {}))
        files = StateFiles(tmp_path)
        assert files.load()[0] == 1 and len(files.damaged) == 1
        files.save(2, self.STATE, {"again": True})
        self.damage(max(tmp_path.glob("step-*2-*")))
        assert 1 in self.steps(tmp_path) and StateFiles(tmp_path).load() is not None

    def test_a_state_outlives_damaged_ones_of_later_steps(self, tmp_path):
        for step in (8, 9):
            StateFiles(tmp_path).save(step, self.STATE, {})
        for path in tmp_path.glob("step-*"):
            self.damage(path)
        StateFiles(tmp_path).save(1, self.STATE, {})
        assert StateFiles(tmp_path).load()[0] == 1

    def test_a_state_that_does_not_read_back_is_an_error_and_removes_nothing(self, tmp_path, monkeypatch):
        files = StateFiles(tmp_path)
        files.save(1, self.STATE, {})
        files.save(2, self.STATE, {})
        monkeypatch.setattr(files, "_whole", lambda path: False)
        with pytest.raises(OSError, match="does not read back"):
            files.save(3, self.STATE, {})
        assert self.steps(tmp_path) == [1, 2, 3]
