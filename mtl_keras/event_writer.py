"""TensorBoard event files, written with TensorBoard's own protocol buffers and record format, without TensorFlow."""

import json
import math
import os
import pathlib
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

# Of TensorBoard, only modules that leave TensorFlow alone: its summary functions import it wherever it is installed.
from tensorboard.compat.proto import attr_value_pb2, event_pb2, graph_pb2, node_def_pb2, summary_pb2, tensor_shape_pb2
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalar_metadata
from tensorboard.plugins.histogram import metadata as histogram_metadata
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from mtl_keras.model_graph import GraphNode
from mtl_keras.viz.png import encode_png

# Category → chart → patterns of tags: the curves that the report compares runs by (figures 1–7).
REPORT_CHARTS = {
    "Report": {
        "Grader": (r"val_grader$",),
        "Semseg: mIoU, %": (r"val_miou$",),
        "Depth: SI-logRMSE": (r"val_silog$",),
    },
    "Training and validation": {
        "Grader": (r"(val_)?grader$",),
        "Semseg: mIoU, %": (r"(val_)?miou$",),
        "Depth: SI-logRMSE": (r"(val_)?silog$",),
    },
}

_FILE_NAME = re.compile(r"events\.out\.tfevents\.(\d+)\.")


class EventWriter:
    """Writes scalars, pictures, histograms, texts, hyper-parameters and graphs into one new event file of a folder.

    Nothing is kept in memory but a file buffer of a few KiB, which `flush` empties; call it at the end of each epoch. A
    process killed in between loses what came after, and leaves a file that TensorBoard still reads. One thread may use
    a writer at a time.

    A run that goes on in the same folder makes a new writer there, and so a second file, which TensorBoard reads as the
    first one's continuation.

    Args:
        logdir: the run's folder of event files; made if it does not exist.
        purge_step: for a run that goes on from a checkpoint, its first step: what earlier files hold at this step and
            later was lost with the crash, and TensorBoard drops it.
        suffix: what the file's name ends with.

    Example:

    ```python
    with EventWriter("runs/demo/tensorboard") as writer:
        writer.hparams({"topology": "joint", "learning_rate": 1e-4})
        writer.scalars({"val_grader": 66.4}, step=0)
    ```
    """

    def __init__(self, logdir: str | os.PathLike, purge_step: int | None = None, suffix: str = ""):
        self.logdir = pathlib.Path(logdir)
        self.logdir.mkdir(parents=True, exist_ok=True)
        self.path, file = _new_event_file(self.logdir, suffix)
        self._records = RecordWriter(file)
        self._write(event_pb2.Event(file_version="brain.Event:2"))
        if purge_step is not None:
            # TensorBoard takes a run's first START for its beginning and purges at the later ones only; two of them
            # purge whatever the earlier files hold.
            for _ in range(2):
                start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
                self._write(event_pb2.Event(step=purge_step, session_log=start))
        self.flush()

    def __enter__(self) -> "EventWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def scalars(self, values: Mapping[str, Any], step: int) -> None:
        """Writes one number a tag, all at the same step; TensorBoard keeps them as float32.

        Args:
            values: tag → number, or an array or tensor of one element.
            step: where on the horizontal axis.
        """
        summary = summary_pb2.Summary()
        for tag, value in values.items():
            summary.value.add(tag=tag, simple_value=float(value))
        self._write_summary(summary, step)

    def image(self, tag: str, pixels: np.ndarray, step: int) -> None:
        """Writes a picture, or several of one size that are shown side by side.

        Args:
            tag: name of the picture.
            pixels: uint8, (height, width), (height, width, 1, 3 or 4) or (batch, height, width, 1, 3 or 4).
            step: where on the slider.

        Raises:
            ValueError: the array is not uint8, or has another shape.
        """
        pixels = np.asarray(pixels)
        pictures = list(pixels) if pixels.ndim == 4 else [pixels]
        encoded = [encode_png(picture) for picture in pictures]
        height, width = pixels.shape[-3:-1] if pixels.ndim > 2 else pixels.shape
        strings = [str(width).encode(), str(height).encode(), *encoded]
        self._write_tensor(tag, np.array(strings, object), step, image_metadata.create_summary_metadata("", ""))

    def histogram(self, tag: str, values: np.ndarray, step: int, bins: int | Sequence[float] = 64) -> None:
        """Writes how often values fall into each of the bins; what is not finite is left out.

        Args:
            tag: name of the histogram.
            values: numbers, in an array of any shape.
            step: where on the depth axis.
            bins: how many bins of equal width from the least value to the greatest, or the bins' edges, ascending; what
                lies outside the edges is left out.
        """
        values = np.asarray(values, np.float64).ravel()
        values = values[np.isfinite(values)]
        counts, edges = np.histogram(values, bins)
        buckets = np.stack([edges[:-1], edges[1:], counts], axis=-1).astype(np.float64)
        self._write_tensor(tag, buckets, step, histogram_metadata.create_summary_metadata("", ""))

    def hparams(self, hparams: Mapping[str, Any], metrics: Mapping[str, Any] | None = None, step: int = 0) -> None:
        """Writes the run's row in the HParams dashboard, whose columns are the hyper-parameters and the scalars.

        Call it at the start, and once more at the end with the run's results: the dashboard shows a scalar's last
        value, so the best epoch's belongs under a tag of its own, such as `best/val_grader`.

        Args:
            hparams: name → bool, number, string or None; a mapping becomes one column an entry, named `outer.inner`,
                None, lists and tuples their JSON, and anything else its string.
            metrics: tag → final number; also says that the run ended well.
            step: the step of the final numbers.
        """
        start = plugin_data_pb2.SessionStartInfo(start_time_secs=time.time())
        for name, value in _flattened(hparams):
            if isinstance(value, bool):
                start.hparams[name].bool_value = value
            elif isinstance(value, int | float):
                start.hparams[name].number_value = value
            else:
                start.hparams[name].string_value = value
        session_start = plugin_data_pb2.HParamsPluginData(session_start_info=start)
        self._write_session(hparams_metadata.SESSION_START_INFO_TAG, session_start)
        if metrics is not None:
            self.scalars(metrics, step)
            end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=time.time())
            session_end = plugin_data_pb2.HParamsPluginData(session_end_info=end)
            self._write_session(hparams_metadata.SESSION_END_INFO_TAG, session_end)

    def custom_scalars_layout(self, charts: Mapping[str, Mapping[str, Sequence[str]]] = REPORT_CHARTS) -> None:
        """Lays out the Custom Scalars dashboard, which draws several tags and all runs into one chart.

        Args:
            charts: category → chart → regular expressions, each matched from a tag's start; by default the report's
                three curves: validation alone, and training and validation together.
        """
        layout = layout_pb2.Layout(
            category=[
                layout_pb2.Category(
                    title=category,
                    chart=[
                        layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=patterns))
                        for title, patterns in titles.items()
                    ],
                )
                for category, titles in charts.items()
            ]
        )
        tensor = np.array(layout.SerializeToString(), object)
        metadata = custom_scalar_metadata.create_summary_metadata()
        self._write_tensor(custom_scalar_metadata.CONFIG_SUMMARY_TAG, tensor, 0, metadata)

    def graph(self, nodes: Sequence[GraphNode]) -> None:
        """Writes the run's graph; names with slashes become boxes that open.

        Args:
            nodes: what to draw, such as `model_graph(model)`.
        """
        graph = graph_pb2.GraphDef(node=[_node_proto(node) for node in nodes])
        # A map's entries lie in another order in every process, unless asked to lie in that of their keys.
        self._write(event_pb2.Event(graph_def=graph.SerializeToString(deterministic=True)))

    def flush(self) -> None:
        """Hands what was written to the operating system, so that it outlives this process and TensorBoard shows it."""
        self._records.flush()

    def close(self) -> None:
        """Flushes and closes the file; a second call does nothing."""
        self._records.close()

    def _write_session(self, tag: str, data: plugin_data_pb2.HParamsPluginData) -> None:
        summary = summary_pb2.Summary()
        metadata = hparams_metadata.create_summary_metadata(data)
        summary.value.add(tag=tag, metadata=metadata, tensor=hparams_metadata.NULL_TENSOR)
        self._write_summary(summary, step=0)

    def _write_tensor(self, tag: str, array: np.ndarray, step: int, metadata: summary_pb2.SummaryMetadata) -> None:
        summary = summary_pb2.Summary()
        summary.value.add(tag=tag, metadata=metadata, tensor=make_tensor_proto(array))
        self._write_summary(summary, step)

    def _write_summary(self, summary: summary_pb2.Summary, step: int) -> None:
        self._write(event_pb2.Event(step=int(step), summary=summary))

    def _write(self, event: event_pb2.Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())


def _node_proto(node: GraphNode) -> node_def_pb2.NodeDef:
    """A node with the attributes that TensorBoard shows: the output's shape lies on its edges."""
    sizes = [tensor_shape_pb2.TensorShapeProto.Dim(size=-1 if side is None else side) for side in node.shape]
    shapes = attr_value_pb2.AttrValue.ListValue(shape=[tensor_shape_pb2.TensorShapeProto(dim=sizes)])
    attributes = {"_output_shapes": attr_value_pb2.AttrValue(list=shapes)}
    if node.parameters:
        attributes["parameters"] = attr_value_pb2.AttrValue(i=node.parameters)
    return node_def_pb2.NodeDef(name=node.name, op=node.kind, input=node.inputs, attr=attributes)


def _new_event_file(logdir: pathlib.Path, suffix: str) -> tuple[pathlib.Path, BinaryIO]:
    """Opens a file whose name sorts after those already there: TensorBoard reads a folder's files in that order."""
    matches = [_FILE_NAME.match(path.name) for path in logdir.iterdir()]
    latest = max((int(match[1]) for match in matches if match), default=0)
    second = max(int(time.time()), latest + 1)
    path = logdir / f"events.out.tfevents.{second:010d}.{socket.gethostname()}.{os.getpid()}{suffix}"
    return path, path.open("xb")


def _flattened(hparams: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values as the dashboard knows them: bool, finite number or string."""
    for key, value in hparams.items():
        name = f"{prefix}{key}"
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{name}.")
        elif isinstance(value, bool | str) or (isinstance(value, int | float) and math.isfinite(value)):
            yield name, value
        elif value is None or isinstance(value, list | tuple):
            yield name, json.dumps(value, default=str)
        else:
            yield name, str(value)
