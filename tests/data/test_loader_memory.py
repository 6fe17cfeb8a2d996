"""What the loader keeps in memory, measured from outside in a process of its own."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

from mtl_keras import data
from tests.data.conftest import write_miniscapes

STATUS = """
    import json, re, sys
    from mtl_keras import data

    def anonymous():
        \"\"\"Memory that is this process's alone, in bytes: not the pages of mapped files.\"\"\"
        return 1024 * int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1])

    def mappings(name):
        \"\"\"Fields of all mappings of a file, in KiB.\"\"\"
        text, found = open("/proc/self/smaps").read(), []
        for part in re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", text):
            if name in part.partition("\\n")[0]:
                found.append({key: int(value) for key, value in re.findall(r"(\\w+):\\s+(\\d+) kB", part)})
        return found

    path, split, cache, *folder = sys.argv[1:]
    dataset = data.Dataset(path, split)
"""

EPOCHS = """
    loader = data.Loader(dataset, 4, data.TrainView((64, 64), horizontal_flip=True), cache=cache)
    used = []
    for epoch in range(8):
        for step in range(loader.steps_per_epoch):
            loader[epoch * loader.steps_per_epoch + step]
        used.append(anonymous())
    print(json.dumps(used))
"""

SHARED = """
    samples = data.open_cache(dataset, "disk", folder=folder[0])
    total = sum(int(samples[i]["image"].sum()) for i in range(len(samples)))
    print(json.dumps({"total": total, "maps": mappings("samples.bin")}))
"""

linux_only = pytest.mark.skipif(not os.path.exists("/proc/self/smaps"), reason="reads Linux's /proc")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Samples of 300 KiB, so that keeping those of an epoch would be 10 MiB."""
    root = tmp_path_factory.mktemp("memory")
    write_miniscapes(root / "source", {"train": 32}, size=(256, 256))
    return data.load("miniscapes", "train", data_dir=root / "source", prepared_dir=root / "prepared")


def measure(program: str, dataset: data.Dataset, *arguments: str):
    command = [sys.executable, "-c", textwrap.dedent(STATUS) + textwrap.dedent(program), str(dataset.path), "train"]
    environment = os.environ | {"PYTHONPATH": os.getcwd(), "KERAS_BACKEND": "numpy"}
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@linux_only
@pytest.mark.parametrize("cache", ["none", "ram", "disk"])
def test_memory_does_not_grow_over_epochs(dataset, cache):
    used = measure(EPOCHS, dataset, cache)
    # Buffers and, with the cache in memory, all samples are there after two epochs; five follow.
    assert used[-1] - used[2] < 3 * 2**20


@linux_only
def test_processes_share_the_disk_cache(dataset, tmp_path):
    data.open_cache(dataset, "disk", folder=tmp_path)
    found = measure(SHARED, dataset, "disk", str(tmp_path))
    (mapping,) = found["maps"]
    size = (tmp_path / f"{dataset.full_name.replace('/', '-')}-train" / "samples.bin").stat().st_size
    assert mapping["Rss"] > 0.5 * size / 1024
    # No page of it was copied: what any process reads is the system's one copy.
    assert mapping["Anonymous"] == 0 and mapping["Private_Dirty"] == 0
    assert found["total"] == sum(int(dataset[i]["image"].sum()) for i in range(len(dataset)))
