"""Semantic segmentation and monocular depth with one Keras 3 network, on every backend.

Importing this package registers all that a saved model is made of, so that `keras.saving.load_model` needs no
`custom_objects`.
"""

from mtl_keras.data.spec import MINISCAPES, DataSpec
from mtl_keras.errors import UserError
from mtl_keras.heads import Metres
from mtl_keras.layers import PixelNormalization, SpreadLike
from mtl_keras.losses import DepthLoss, SegmentationLoss
from mtl_keras.metrics import MeanIoU, SILogRMSE, grader
from mtl_keras.model import MultiTaskModel
from mtl_keras.optimizers import SGD, Adam, AdamW, Group, PolyDecay
from mtl_keras.upsampling import BilinearUpsampling, UpsamplingConv2D

__all__ = [
    "MINISCAPES",
    "SGD",
    "Adam",
    "AdamW",
    "BilinearUpsampling",
    "DataSpec",
    "DepthLoss",
    "Group",
    "MeanIoU",
    "Metres",
    "MultiTaskModel",
    "PixelNormalization",
    "PolyDecay",
    "SILogRMSE",
    "SegmentationLoss",
    "SpreadLike",
    "UpsamplingConv2D",
    "UserError",
    "grader",
]
