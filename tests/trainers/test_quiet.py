"""What libraries have to say of themselves stays off the terminal."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
READ_A_DATASET = """
import trainers
import tensorflow as tf
numbers = tf.data.Dataset.from_generator(lambda: iter([1, 2]), output_signature=tf.TensorSpec((), tf.int32))
assert [int(number) for number in numbers] == [1, 2]
"""


def test_tensorflow_says_nothing_at_its_start_nor_when_it_first_reads_a_dataset():
    """Which Keras has it do in `fit`, below the progress bar."""
    pytest.importorskip("tensorflow")
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", READ_A_DATASET],
        cwd=ROOT,
        env={**environment, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
