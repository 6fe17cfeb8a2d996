import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_keras.data.views import EvalView, TrainView, flip
from mtl_keras.data.warp import homography, warp_window
from mtl_keras.errors import UserError


def sample_of(height, width, dtype=np.uint8):
    """Every modality says where its pixel was: x, y, and a label that follows from both."""
    y, x = np.mgrid[:height, :width]
    return {
        "id": "0",
        "image": np.stack([x % 256, y % 256, np.full_like(x, 255)], -1).astype(np.uint8),
        "semseg": ((x // 8 + y // 8) % 19).astype(np.uint8),
        "depth_codes": (1 + (x // 8 + y // 8) % 19).astype(dtype),
        "depth_scale": 2.0,
    }


WARPS = st.fixed_dictionaries(
    {
        "window_scaling": st.floats(0, 1),
        "tilt": st.floats(0, 30),
        "corner_wiggle": st.floats(0, 0.2),
        "horizontal_flip": st.booleans(),
    }
)


@settings(deadline=None, max_examples=60)
@given(WARPS, st.integers(0, 2**32 - 1), st.sampled_from([np.uint8, np.uint16]))
def test_image_and_labels_stay_registered(warps, seed, dtype):
    view = TrainView((64, 96), **warps)(sample_of(128, 192, dtype), np.random.default_rng(seed))
    inside = view["semseg"] != 255
    # Labels and depth come from the same pixel, and nothing but ignore and invalid from outside the image.
    np.testing.assert_array_equal(view["depth_codes"][inside], view["semseg"][inside].astype(int) + 1)
    assert (view["depth_codes"][~inside] == 0).all()
    assert (view["image"][~inside] == 0).all()
    assert (view["image"][inside][:, 2] > 250).all()
    # The image tells where the pixel was, so the label can be computed from it, away from the labels' edges.
    x, y = (view["image"][..., i].astype(int) for i in (0, 1))
    middle = inside & (abs(x % 8 - 3.5) < 3) & (abs(y % 8 - 3.5) < 3)
    np.testing.assert_array_equal(((x // 8 + y // 8) % 19)[middle], view["semseg"][middle])


@given(st.integers(0, 2**32 - 1))
def test_a_plain_crop_is_a_slice_of_the_image(seed):
    sample = sample_of(80, 100)
    view = TrainView((48, 64))(sample, np.random.default_rng(seed))
    left, top = view["image"][0, 0, :2].astype(int)
    for name in ("image", "semseg", "depth_codes"):
        np.testing.assert_array_equal(view[name], sample[name][top : top + 48, left : left + 64])
        assert np.shares_memory(view[name], sample[name])


def test_crops_reach_every_corner():
    rng = np.random.default_rng(0)
    corners = {tuple(TrainView((6, 6))(sample_of(8, 8), rng)["image"][0, 0, :2].tolist()) for _ in range(200)}
    assert corners == {(x, y) for x in range(3) for y in range(3)}


def test_flipping_twice_is_the_identity():
    sample = sample_of(16, 24)
    once, twice = flip(sample), flip(flip(sample))
    for name in ("image", "semseg", "depth_codes"):
        np.testing.assert_array_equal(twice[name], sample[name])
        np.testing.assert_array_equal(once[name], sample[name][:, ::-1])


def test_half_of_the_samples_are_flipped():
    rng = np.random.default_rng(0)
    view = TrainView((16, 16), horizontal_flip=True)
    flipped = sum(
        int(v["image"][0, 0, 0]) > int(v["image"][0, -1, 0])
        for v in (view(sample_of(16, 16), rng) for _ in range(1000))
    )
    assert 440 < flipped < 560


def test_a_homography_takes_the_corners_of_the_crop_to_those_of_the_window():
    corners = np.array([[3.0, 4.0], [40.0, 1.0], [44.0, 30.0], [-2.0, 28.0]])
    a, b, c, d, e, f, g, h = homography(corners, (20, 30))
    for (x, y), expected in zip([(0, 0), (30, 0), (30, 20), (0, 20)], corners, strict=True):
        w = g * x + h * y + 1
        np.testing.assert_allclose([(a * x + b * y + c) / w, (d * x + e * y + f) / w], expected, atol=1e-9)


def test_an_upright_window_of_the_crops_size_is_the_plain_crop():
    sample = sample_of(40, 60)
    warped = warp_window(sample, np.array([[7, 5], [39, 5], [39, 29], [7, 29]]), (24, 32))
    for name in ("image", "semseg", "depth_codes"):
        np.testing.assert_array_equal(warped[name], sample[name][5:29, 7:39])


def test_bilinear_resampling_agrees_with_float64():
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (40, 50, 3), np.uint8)
    sample = sample_of(40, 50) | {"image": image}
    corners = np.array([[10.3, 8.2], [35.1, 10.4], [37.7, 30.9], [8.8, 28.5]])
    warped = warp_window(sample, corners, (16, 16))["image"]
    a, b, c, d, e, f, g, h = homography(corners, (16, 16))
    y, x = np.mgrid[:16, :16] + 0.5
    w = g * x + h * y + 1
    u, v = (a * x + b * y + c) / w - 0.5, (d * x + e * y + f) / w - 0.5
    i, j = np.floor(v).astype(int), np.floor(u).astype(int)
    p, q = (v - i)[..., None], (u - j)[..., None]
    at = lambda di, dj: image[i + di, j + dj].astype(np.float64)  # noqa: E731
    expected = (1 - p) * ((1 - q) * at(0, 0) + q * at(0, 1)) + p * ((1 - q) * at(1, 0) + q * at(1, 1))
    assert abs(warped - expected).max() <= 1


def test_depth_follows_the_zoom_only_if_asked():
    rng = np.random.default_rng
    plain = TrainView((32, 32), window_scaling=1.0)(sample_of(128, 128), rng(5))
    scaled = TrainView((32, 32), window_scaling=1.0, scale_depth=True)(sample_of(128, 128), rng(5))
    assert plain["depth_scale"] == 2.0
    # The window's width in the image, read off the image itself, over the crop's.
    zoom = (int(scaled["image"][16, 31, 0]) - int(scaled["image"][16, 0, 0])) / 31
    assert scaled["depth_scale"] == pytest.approx(2.0 * zoom, rel=0.05) and abs(zoom - 1) > 0.1


def test_jitter_changes_colours_and_no_labels():
    sample = sample_of(32, 32)
    view = TrainView((32, 32), photometric_jitter=0.5)(sample, np.random.default_rng(0))
    assert (view["image"] != sample["image"]).any()
    np.testing.assert_array_equal(view["semseg"], sample["semseg"])
    np.testing.assert_array_equal(view["depth_codes"], sample["depth_codes"])


def test_evaluation_cuts_from_the_top_left_to_multiples_of_32():
    sample = sample_of(70, 100)
    view = EvalView()(sample)
    np.testing.assert_array_equal(view["image"], sample["image"][:64, :96])


@pytest.mark.parametrize("view", [TrainView((64, 64)), TrainView((64, 64), tilt=5), EvalView()])
def test_images_that_are_too_small_are_refused(view):
    with pytest.raises(UserError, match="31×100 px"):
        view(sample_of(31, 100), np.random.default_rng(0))


@pytest.mark.parametrize(
    "wrong", [{"crop": (0, 5)}, {"crop": (64.5, 64)}, {"crop": 64}, {"corner_wiggle": 0.9}, {"tilt": -1}]
)
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(UserError, match="expected"):
        TrainView(**wrong)


def test_depth_that_would_follow_no_zoom_is_refused():
    with pytest.raises(UserError, match="scale_depth is of use with window_scaling alone: add --window_scaling"):
        TrainView(scale_depth=True, tilt=5)
