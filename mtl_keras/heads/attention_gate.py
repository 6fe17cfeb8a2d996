"""The gate through which one task's features reach another's.

Xu et al., "PAD-Net: Multi-Tasks Guided Prediction-and-Distillation Network", https://arxiv.org/abs/1805.04409;
report, section 3 (Task Distillation).
"""

from keras import layers

from mtl_keras.initializers import TorchUniform
from mtl_keras.layers import Conv2D, block


@block
def attention_gate(x):
    """Features weighted by their own attention map: conv3×3(x) · sigmoid(attention3×3(x)), at the same shape.

    The attention's kernel starts at zero, so that the gate starts at one half everywhere.
    """
    filters = x.shape[-1]
    options = {"padding": "same", "use_bias": False}
    features = Conv2D(filters, 3, kernel_initializer=TorchUniform(filters * 9), name="conv", **options)(x)
    attention = Conv2D(filters, 3, kernel_initializer="zeros", activation="sigmoid", name="attention", **options)(x)
    return layers.Multiply(name="multiply")([features, attention])
