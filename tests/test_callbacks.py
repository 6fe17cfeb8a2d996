"""What callbacks make of the logs."""

import math

import keras
import numpy as np
import pytest

from mtl_keras.callbacks import number


@pytest.mark.parametrize("value", [0.0005, -1e-30, 1.5, 3e38, 12345678.0])
def test_a_number_has_as_few_digits_as_its_precision(value):
    found = number(keras.ops.convert_to_tensor(value, "float32"))
    assert found == value and np.float32(found) == np.float32(value)


def test_a_number_of_the_host_stays_what_it_is():
    assert number(0.1 + 0.2) == 0.1 + 0.2
    assert math.isnan(number(np.float32("nan"))) and number(np.float32("inf")) == math.inf
