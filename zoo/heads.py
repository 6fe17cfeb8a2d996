"""What the topologies are assembled of: the heads with a run's switches set."""

import dataclasses

from keras import KerasTensor

from mtl_keras.data.spec import DataSpec
from mtl_keras.heads import Metres, aspp, decoder, predictor, projection
from mtl_keras.upsampling import BilinearUpsampling


@dataclasses.dataclass(frozen=True)
class Features:
    """An encoder's features: `deep`, (batch, h, w, channels), and `shallow`, at 1/4 scale, `scale` times as large."""

    deep: KerasTensor
    shallow: KerasTensor
    scale: int


@dataclasses.dataclass(frozen=True)
class Heads:
    """The heads of one model.

    Args:
        spec: the dataset that is predicted.
        aspp: whether deep features go through the ASPP or one 1×1 convolution.
        skip: whether the decoder joins them with shallow ones or only upsamples them.
        aspp_rates: dilation rates of the ASPP.
    """

    spec: DataSpec
    aspp: bool = True
    skip: bool = True
    aspp_rates: tuple[int, ...] = (3, 6, 9)

    def decode(self, features: Features, *, name: str):
        """A task's features at 1/4 scale, (batch, height/4, width/4, 256)."""
        if self.aspp:
            x = aspp(features.deep, dilation_rates=self.aspp_rates, name=f"{name}_aspp")
        else:
            x = projection(features.deep, name=f"{name}_projection")
        if self.skip:
            return decoder(x, features.shallow, scale=features.scale, name=f"{name}_decoder")
        return BilinearUpsampling(features.scale, name=f"{name}_upsample")(x)

    def semseg(self, x, *, name: str):
        """Class logits at the image's size."""
        return predictor(x, channels=self.spec.num_classes, name=f"{name}_predictor")

    def depth(self, x, *, name: str):
        """Depth in metres at the image's size."""
        return self.metres(predictor(x, channels=1, name=f"{name}_predictor"), name=name)

    def both(self, x, *, name: str):
        """Class logits and depth in metres of one predictor, its channels shared out."""
        x = predictor(x, channels=self.spec.num_classes + 1, name=f"{name}_predictor")
        return x[..., :-1], self.metres(x[..., -1:], name="depth")

    def metres(self, x, *, name: str):
        """Metres of normalised depth."""
        return Metres(self.spec.depth_mean, self.spec.depth_std, name=f"{name}_metres")(x)
