"""The light of a scene: sun, sky, clouds and haze."""

import dataclasses

import numpy as np

from mtl_keras.data.street_scenes import noise
from mtl_keras.data.street_scenes.draws import Colour, Draw, blend, cosine_sine, hue_colour, scaled


@dataclasses.dataclass(frozen=True)
class Weather:
    """Where light comes from and what the air does to it.

    Args:
        sun: (3,) unit direction to the sun in the world.
        sunlight: colour and strength of direct light, linear.
        skylight: colour and strength of diffuse light, linear.
        zenith: display colour of the sky above.
        horizon: display colour of the sky at the horizon, and of haze.
        cloud: display colour of clouds.
        cover: share of the sky under clouds.
        haze: share of light lost in a metre.
    """

    sun: np.ndarray
    sunlight: Colour
    skylight: Colour
    zenith: Colour
    horizon: Colour
    cloud: Colour
    cover: float
    haze: float


def draw_weather(draw: Draw) -> Weather:
    kind = draw.pick(("clear", "mixed", "overcast", "sunset", "fog", "dusk"), (0.34, 0.24, 0.18, 0.1, 0.07, 0.07))
    elevation = draw.uniform(0.12, 0.3) if kind in ("sunset", "dusk") else draw.uniform(0.35, 1.1)
    rise, height = cosine_sine(elevation)
    east, north = cosine_sine(draw.uniform(-3.14, 3.14))
    sun = np.array([east * rise, height, north * rise])
    hue = draw.uniform(0.53, 0.64)
    blue = hue_colour(hue, draw.uniform(0.25, 0.75), draw.uniform(0.5, 0.95))
    pale = hue_colour(hue, draw.uniform(0.02, 0.25), draw.uniform(0.8, 0.98))
    dull = hue_colour(draw.uniform(), draw.uniform(0.0, 0.1), draw.uniform(0.55, 0.92))
    warm = hue_colour(draw.uniform(0.03, 0.13), draw.uniform(0.15, 0.55), draw.uniform(0.75, 0.98))
    white, gold = (1.0, 0.97, 0.9), (1.0, 0.78, 0.52)
    direct, diffuse, zenith, horizon, cover, haze = {
        "clear": (draw.uniform(0.8, 1.2), 0.42, blue, pale, draw.uniform(0.0, 0.35), 0.0009),
        "mixed": (draw.uniform(0.4, 0.9), 0.52, blue, blend(pale, dull, 0.4), draw.uniform(0.35, 0.75), 0.0016),
        "overcast": (0.0, draw.uniform(0.75, 0.95), dull, scaled(dull, 1.1), 1.0, 0.0025),
        "sunset": (draw.uniform(0.6, 1.0), 0.36, blend(blue, warm, 0.35), warm, draw.uniform(0.1, 0.6), 0.0022),
        "fog": (0.0, draw.uniform(0.7, 0.9), dull, scaled(dull, 1.05), 1.0, draw.uniform(0.006, 0.014)),
        "dusk": (0.12, draw.uniform(0.32, 0.5), scaled(blue, 0.55), scaled(warm, 0.8), draw.uniform(0.2, 0.8), 0.0022),
    }[kind]
    sun_colour = gold if kind in ("sunset", "dusk") else white
    # Shade takes on the sky's colour, half way.
    sky_tint = blend((1.0, 1.0, 1.0), scaled(zenith, 1.2), 0.4)
    return Weather(
        sun=sun,
        sunlight=(direct * sun_colour[0], direct * sun_colour[1], direct * sun_colour[2]),
        skylight=(diffuse * sky_tint[0], diffuse * sky_tint[1], diffuse * sky_tint[2]),
        zenith=zenith,
        horizon=horizon,
        cloud=blend((0.97, 0.97, 0.97), dull if kind == "overcast" else horizon, draw.uniform(0.1, 0.6)),
        cover=cover,
        haze=haze * draw.uniform(0.4, 1.9),
    )


def sky(weather: Weather, ray: np.ndarray, offset: float) -> np.ndarray:
    """Display colours (3, samples) of the sky along world rays (3, samples) of any length."""
    length = np.sqrt(ray[0] * ray[0] + ray[1] * ray[1] + ray[2] * ray[2])
    height = np.maximum(ray[1] / length, 0)
    climb = height * (np.float32(1.9) - height)
    horizon, zenith = (np.array(colour, np.float32)[:, None] for colour in (weather.horizon, weather.zenith))
    colour = horizon + (zenith - horizon) * np.minimum(climb * np.float32(1.5), 1)
    # Clouds lie on a plane far above; they close up towards the horizon, where they would only flicker.
    far = np.float32(38) / (height + np.float32(0.16))
    u, v = ray[0] / length * far + np.float32(offset), ray[2] / length * far + np.float32(offset * 3)
    puffs = noise.look_up_smooth(noise.fractal_tile(), u, v)
    detail = noise.look_up_smooth(noise.fractal_tile(), u * np.float32(3.1), v * np.float32(3.1))
    density = np.clip((puffs * np.float32(0.75) + detail * np.float32(0.25) - np.float32(1 - weather.cover)) * 4, 0, 1)
    shade = (1 - (detail - np.float32(0.4)) * np.float32(0.22)) * np.float32(1.02)
    cloud = np.array(weather.cloud, np.float32)[:, None] * shade
    colour += (cloud - colour) * (density * np.float32(0.8))
    towards = np.maximum(sum(float(weather.sun[k]) * ray[k] for k in range(3)) / length, 0).astype(np.float32)
    glow = towards * towards
    glow = glow * glow
    glow = glow * glow * np.float32(min(1.0, weather.sunlight[0]))
    return colour + (np.float32(1.1) - colour) * glow * np.float32(0.5)


def through_haze(weather: Weather, light: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Linear light (3, samples) from `distance` metres away, faded into the horizon's colour."""
    # (1 + t / 4)^-4 stands for exp(-t), which math libraries round differently.
    clear = 1 / (1 + distance * np.float32(weather.haze / 4))
    clear = clear * clear
    clear = clear * clear
    haze = np.square(np.array(weather.horizon, np.float32))[:, None]
    return haze + (light - haze) * clear
