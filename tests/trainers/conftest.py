"""A small dataset to train on, and commands as a person types them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import AS_A_USER
from tests.data.conftest import write_miniscapes

ROOT = Path(__file__).parents[2]
# Half the network's weights and a third of its work, for runs of which only the course matters.
LIGHT = ("--arch=joint", "--noaspp", "--noskip")


@pytest.fixture(scope="session")
def scenes_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `scenes`' images."""
    folder = tmp_path_factory.mktemp("scenes")
    write_miniscapes(folder, {"train": 12, "val": 3, "test": 2}, size=(64, 96))
    return folder


@pytest.fixture(scope="session")
def scenes(scenes_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Flags for a dataset of 12 training and 3 validation images, 64×96, and a network that compiles fast."""
    return [
        "--dataset=miniscapes",
        f"--data_dir={scenes_dir}",
        f"--prepared_dir={tmp_path_factory.mktemp('prepared')}",
        "--encoder=resnet18",
        "--crop=32,64",
        "--batch_size=3",
        "--epochs=2",
    ]


@pytest.fixture(scope="session")
def command() -> Callable[..., subprocess.Popen]:
    """Starts `python -m trainers.NAME` with flags, its output to be read."""

    def start(name: str, *flags: str, **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", f"trainers.{name}", *flags],
            cwd=ROOT,
            env={**os.environ, **AS_A_USER, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start
