from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl_keras.data.depth_encoding import decode_depth, encode_inverse_depth, is_range, is_scale

LOW, HIGH = 1 / 300, 1 / 4


def test_every_code_survives_the_round_trip():
    codes = np.arange(256, dtype=np.uint8)
    for policy in ("invalidate", "clamp"):
        np.testing.assert_array_equal(encode_inverse_depth(decode_depth(codes, "inverse"), policy), codes)


def test_inverse_decoding_is_the_formula_of_miniscapes():
    v = np.arange(1, 256)
    expected = 1 / ((HIGH - LOW) * (v - 1) / 254 + LOW)
    metres = decode_depth(v.astype(np.uint8), "inverse")
    np.testing.assert_allclose(metres, expected, rtol=1e-6)
    assert metres[0] == 300 and metres[-1] == 4 and 231 < metres[1] < 233
    assert decode_depth(np.uint8([0]), "inverse")[0] == 0


@given(st.floats(4, 300))
def test_a_depth_lies_within_half_a_step_of_its_code(metres):
    decoded = decode_depth(encode_inverse_depth(np.array([metres])), "inverse")[0]
    assert abs(1 / decoded - 1 / metres) <= 0.5001 * (HIGH - LOW) / 254


def test_policies_for_depth_out_of_range():
    metres = np.array([3.9, 300.1, 1e9, 0, -5, np.nan, np.inf, 4, 300])
    np.testing.assert_array_equal(encode_inverse_depth(metres), [0, 0, 0, 0, 0, 0, 0, 255, 1])
    np.testing.assert_array_equal(encode_inverse_depth(metres, "clamp"), [255, 1, 1, 0, 0, 0, 0, 255, 1])
    with pytest.raises(ValueError, match="invalidate"):
        encode_inverse_depth(metres, "wrap")


def test_disparity_agrees_with_float64():
    codes = np.arange(65536, dtype=np.uint16)
    scale = 0.209313 * 2262.52
    disparity = (codes[2:].astype(np.float64) - 1) / 256
    metres = decode_depth(codes, "disparity", scale)
    np.testing.assert_allclose(metres[2:], scale / disparity, rtol=1e-6)
    # Code 0 is invalid by definition, and disparity 0 is infinitely far.
    assert metres[0] == metres[1] == 0


def test_linear_millimetres():
    np.testing.assert_allclose(decode_depth(np.uint16([0, 1, 12345]), "linear", 0.001), [0, 0.001, 12.345], rtol=1e-6)


def test_depth_outside_the_range_is_invalid():
    codes = np.uint16([9, 10, 50, 100, 101])
    np.testing.assert_array_equal(decode_depth(codes, "linear", 1.0, (10, 100)), [0, 10, 50, 100, 0])
    narrow = decode_depth(np.arange(256, dtype=np.uint8), "inverse", 1.0, (10, 50))
    assert narrow[narrow > 0].min() >= 10 and narrow.max() <= 50


@given(
    encoding=st.sampled_from(["linear", "disparity"]),
    scale=st.builds(Fraction, st.integers(1, 2000), st.sampled_from([1, 10, 100, 256, 1000, 10_000, 20_000])),
    code=st.integers(4, 65533),
    is_upper=st.booleans(),
    dtype=st.sampled_from([np.uint16, np.uint8]),
)
def test_depth_exactly_on_an_end_of_the_range_is_valid_and_the_next_is_not(encoding, scale, code, is_upper, dtype):
    code = code % 250 + 4 if dtype == np.uint8 else code
    exact = lambda c: scale * c if encoding == "linear" else scale / Fraction(c - 1, 256)  # noqa: E731
    end = exact(code)
    limits = (float(end / 100), float(end)) if is_upper else (float(end), float(end * 100))
    codes = range(code - 2, code + 3)
    expected = [float(exact(c)) if (exact(c) <= end if is_upper else exact(c) >= end) else 0 for c in codes]
    # A description's scale, and the same one as it is kept with the prepared data.
    for factor in (float(scale), float(np.float32(scale))):
        metres = decode_depth(np.array(codes, dtype), encoding, factor, limits)
        assert metres.dtype == np.float32
        np.testing.assert_allclose(metres, expected, rtol=4e-7)
        valid = metres[metres > 0]
        assert np.float32(limits[0]) <= valid.min() and valid.max() <= np.float32(limits[1])


@pytest.mark.parametrize(
    ("scale", "limits", "code"),
    [(0.001, (0.5, high), round(high * 1000)) for high in (15, 25, 30, 50, 60)]
    + [(0.002, (0.5, high), round(high * 500)) for high in (15, 30, 50, 60, 100, 120)]
    + [(scale, (low, 5), round(low / scale)) for low in (0.1, 0.2, 0.3) for scale in (0.01, 0.005, 0.0001)],
)
def test_ends_that_people_write_are_valid(scale, limits, code):
    assert decode_depth(np.uint16([code]), "linear", scale, limits)[0] == pytest.approx(code * scale, rel=1e-6)


def test_scales_and_ranges_are_numbers_that_float32_holds():
    assert is_scale(0.001) and is_scale(1) and is_range((0.5, 80)) and is_range([4.0, 300.0])
    for scale in (0, -1, np.nan, np.inf, 1e-300, 1e300, 10**400, "1", None):
        assert not is_scale(scale)
        assert not is_range((scale, 5)) and not is_range((5, scale))
    for limits in ((5, 5), (5, 4), (0, 300), (1, 2, 3), (1,), 5, "45", None):
        assert not is_range(limits)


def test_unknown_encodings_are_refused():
    with pytest.raises(ValueError, match="expected one of"):
        decode_depth(np.uint8([1]), "logarithmic")
    with pytest.raises(ValueError, match="uint8"):
        decode_depth(np.uint16([1]), "inverse")
