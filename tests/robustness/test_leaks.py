"""Memory and file handles stay flat: the short form of `benchmarks.soak`."""

import gc

import numpy as np
import psutil

from benchmarks import soak
from tests import harness


def test_twenty_epochs_take_no_more_and_more(tmp_path):
    usage = soak.train(20, tmp_path)
    assert len(usage.bytes) > 8
    assert usage.grown_bytes < 2 * soak.MOST_GROWN and usage.grown_handles <= soak.MOST_HANDLES, usage


def test_two_hundred_predictions_take_no_more_and_more():
    model = harness.tiny_model()
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*side, 3), np.uint8) for side in ((17, 30), (32, 48))]
    usage, process = soak.Usage("200 predictions"), psutil.Process()
    for number in range(200):
        model.predict_images(images[number % 2], flip=number % 3 == 0)
        if number % 10 == 0:
            gc.collect()
            usage.sample(process)
    assert usage.flat, usage


def test_what_grows_is_seen():
    usage = soak.Usage("a leak", [2**20 * (100 + 2 * n) for n in range(100)], [10 + n for n in range(100)])
    assert usage.grown_bytes > soak.MOST_GROWN and usage.grown_handles > soak.MOST_HANDLES and not usage.flat
