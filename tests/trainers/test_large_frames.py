"""A camera's whole frame, 2048×1024 as Cityscapes has it, in one command."""

import numpy as np
import pytest
from PIL import Image

from mtl_keras.exporting.check import sample_images
from tests.runs import decisive_model, write_run

SIZE = (1024, 2048)


@pytest.fixture(scope="module")
def predicted(module_path, command):
    """Class ids and metres of a frame, seen as a whole and through windows."""
    run = write_run(module_path, decisive_model("joint"), arch="joint")
    frame = module_path / "frankfurt_000000_000294_leftImg8bit.png"
    # Patterns as coarse as what a street has: 4 times those that the model was made decisive with.
    Image.fromarray(sample_images(1, SIZE[0] // 4, SIZE[1] // 4)[0]).resize(SIZE[::-1]).save(frame)
    ways = {"whole": [], "windows": ["--window=512x1024"]}
    arguments = [str(run.path), str(frame), "--only=semseg", "--only=depth"]
    processes = {way: command("predict", *arguments, f"--out={module_path / way}", *ways[way]) for way in ways}
    found = {}
    for way, process in processes.items():
        errors = process.communicate(timeout=300)[1]
        assert process.returncode == 0, errors
        files = [module_path / way / kind / f"{frame.stem}.png" for kind in ("semseg", "depth")]
        found[way] = [np.asarray(Image.open(file)).astype(int) for file in files]
    return found


@pytest.mark.parametrize("way", ["whole", "windows"])
def test_it_comes_back_at_its_own_size(predicted, way):
    semseg, depth = predicted[way]
    assert semseg.shape == depth.shape == SIZE
    assert set(np.unique(semseg)) <= set(range(19)) and len(np.unique(semseg)) > 5
    assert depth.min() >= 4 * 256 and depth.std() > 256


def test_windows_leave_no_seam(predicted):
    """Least of all where one ends: neither a column nor a step between columns differs by a colour of the depth map."""
    whole, windows = (np.log(predicted[way][1]) for way in ("whole", "windows"))
    colour = np.log(300 / 4) / 255
    assert np.abs(windows - whole).mean(axis=0).max() < colour
    assert np.abs(np.diff(windows, axis=1) - np.diff(whole, axis=1)).mean(axis=0).max() < colour
