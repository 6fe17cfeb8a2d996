"""Arithmetic of our own that stands for functions which math libraries round differently."""

import colorsys

import numpy as np
import pytest

from mtl_keras.data.street_scenes import noise
from mtl_keras.data.street_scenes.camera import draw_camera
from mtl_keras.data.street_scenes.draws import Draw, cosine_sine, hue_colour
from mtl_keras.data.street_scenes.weather import draw_weather, through_haze


@pytest.mark.parametrize("angle", [0.0, 1e-5, 0.3, -1.2, np.pi / 2, 3.0, -np.pi, 6.2])
def test_cosine_and_sine(angle):
    assert cosine_sine(angle) == pytest.approx((np.cos(angle), np.sin(angle)), abs=1e-6)


@pytest.mark.parametrize("hue", [0.0, 0.1, 1 / 3, 0.55, 0.9, 1.25])
@pytest.mark.parametrize(("saturation", "value"), [(0.0, 0.4), (0.6, 0.9), (1.0, 1.0)])
def test_hue_colour_is_hsv(hue, saturation, value):
    assert hue_colour(hue, saturation, value) == pytest.approx(
        colorsys.hsv_to_rgb(hue % 1, saturation, value), abs=1e-9
    )


def test_picks_follow_their_weights():
    draw = Draw(5)
    picks = [draw.pick("abc", (0.2, 0.5, 0.3)) for _ in range(4000)]
    assert [picks.count(option) / 4000 for option in "abc"] == pytest.approx([0.2, 0.5, 0.3], abs=0.03)


def test_haze_fades_light_about_exponentially():
    weather = draw_weather(Draw(1))
    distance = np.linspace(0, 0.8 / weather.haze, 50, dtype=np.float32)
    horizon = np.square(np.array(weather.horizon, np.float32))[:, None]
    light = through_haze(weather, np.zeros((3, 1), np.float32), distance)
    np.testing.assert_allclose(light, horizon * (1 - np.exp(-weather.haze * distance)), atol=0.03)


def test_fractal_noise_is_flat_smooth_and_periodic():
    tile = noise.fractal_tile()
    assert np.quantile(tile, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=1e-3)
    seam = np.abs(tile[:, 0] - tile[:, -1]).mean()
    inside = np.abs(np.diff(tile, axis=1)).mean()
    assert seam < 1.5 * inside < 0.15
    u, v = np.float32([3.2, 259.2, -252.8]), np.float32([7.9, 7.9, -248.1])
    assert np.unique(noise.look_up(tile, u, v)).size == 1
    np.testing.assert_allclose(noise.look_up_smooth(tile, u, v), noise.look_up_smooth(tile, u, v)[0], atol=1e-4)


def test_cell_hash_is_even_and_tells_neighbours_apart():
    column, row = np.meshgrid(np.arange(-100, 100), np.arange(-100, 100))
    luck = noise.cell_hash(column, row, 7)
    assert luck.min() >= 0 and luck.max() < 1
    assert np.histogram(luck, 10, (0, 1))[0] / luck.size == pytest.approx(np.full(10, 0.1), abs=0.01)
    assert abs(np.corrcoef(luck[:, 1:].ravel(), luck[:, :-1].ravel())[0, 1]) < 0.03


@pytest.mark.parametrize("seed", range(3))
def test_camera_axes_are_a_rotation(seed):
    axes = draw_camera(Draw(seed), 10, 20, 0.0).axes
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-7)
