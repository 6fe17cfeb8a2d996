"""Heads: what turns an encoder's features into predictions."""

from mtl_keras.heads.aspp import aspp, projection
from mtl_keras.heads.attention_gate import attention_gate
from mtl_keras.heads.decoder import decoder, predictor, refine
from mtl_keras.heads.metres import Metres

__all__ = ["Metres", "aspp", "attention_gate", "decoder", "predictor", "projection", "refine"]
