"""From the network's normalised depth to metres."""

import keras
from keras import layers


@keras.saving.register_keras_serializable("mtl_keras")
class Metres(layers.Layer):
    """depth = normalised · std + mean, in metres and float32, not clamped: the loss must see what the network says.

    Args:
        mean: mean depth of the dataset, in metres.
        std: standard deviation, in metres.
    """

    def __init__(self, mean: float, std: float, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.mean = mean
        self.std = std

    def call(self, normalized):
        return normalized * self.std + self.mean

    def compute_output_spec(self, normalized):
        return keras.KerasTensor(normalized.shape, dtype=self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "mean": self.mean, "std": self.std}
