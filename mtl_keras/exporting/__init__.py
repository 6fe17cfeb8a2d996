"""Exported models: graphs that take raw RGB and need nothing of this library to run.

| format | file | height and width | runtime |
|---|---|---|---|
| `saved_model` | a folder | free or fixed | TensorFlow, TensorFlow Serving |
| `onnx` | `model.onnx` | free or fixed | ONNX Runtime |
| `litert` | `model.tflite` | free or fixed | LiteRT |
| `openvino` | `model.xml`, `model.bin` | free or fixed | OpenVINO |
| `keras` | `model.keras` | multiples of the output stride | Keras and this library |

The batch is always free. All but the last take `image`, (batch, height, width, 3) uint8, pad to the output stride
within the graph and crop back, and give `semseg`, (batch, height, width, classes) logits, and `depth`, (batch, height,
width, 1) metres. Their graphs are made by TensorFlow, whatever backend a model was trained with.

What the ids and metres mean, the model's `DataSpec` with its classes, palette and range of depth, lies in each as JSON:
a SavedModel's `assets/spec.json`, the entry `spec` of ONNX' metadata and OpenVINO's `rt_info`, and the file `spec.json`
of the zip archive that a `.tflite` file is too.
"""

from mtl_keras.exporting.check import Agreement as Agreement
from mtl_keras.exporting.check import compare as compare
from mtl_keras.exporting.graph import PRECISIONS as PRECISIONS
from mtl_keras.exporting.graph import ExportOptions as ExportOptions
from mtl_keras.exporting.graph import serving_function as serving_function
from mtl_keras.exporting.writers import FILES as FILES
from mtl_keras.exporting.writers import FORMATS as FORMATS
from mtl_keras.exporting.writers import write as write
