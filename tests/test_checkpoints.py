import numpy as np

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
