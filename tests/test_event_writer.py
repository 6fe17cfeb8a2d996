"""What TensorBoard's own readers find in the files that the writer made."""

import base64
import io
import json
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from mtl_keras.event_writer import EventWriter

# In a process of its own and without TensorFlow, whose import takes longer than all the rest.
READER = """
import base64, json, sys
sys.modules["tensorflow"] = None
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util import tensor_util

accumulator = EventAccumulator(sys.argv[1], size_guidance={"tensors": 0})
accumulator.Reload()
found = {"scalars": {}, "tensors": {}, "plugins": {}, "sessions": {}}
for tag in accumulator.Tags()["tensors"]:
    plugin = accumulator.SummaryMetadata(tag).plugin_data
    events = [(event.step, tensor_util.make_ndarray(event.tensor_proto)) for event in accumulator.Tensors(tag)]
    found["plugins"][tag] = plugin.plugin_name
    if plugin.plugin_name == "hparams":
        data = plugin_data_pb2.HParamsPluginData.FromString(plugin.content)
        session = data.session_start_info.hparams
        found["sessions"][tag] = {name: getattr(session[name], session[name].WhichOneof("kind")) for name in session}
        found["sessions"][tag]["status"] = data.session_end_info.status
    elif plugin.plugin_name == "custom_scalars":
        layout = layout_pb2.Layout.FromString(events[0][1].item())
        found["layout"] = {c.title: {x.title: list(x.multiline.tag) for x in c.chart} for c in layout.category}
    elif plugin.plugin_name == "scalars":
        found["scalars"][tag] = [(step, array.item()) for step, array in events]
    elif events[0][1].dtype == object:
        strings = [(step, [base64.b64encode(x).decode() for x in array.ravel()]) for step, array in events]
        found["tensors"][tag] = strings
    else:
        found["tensors"][tag] = [(step, array.tolist()) for step, array in events]
print(json.dumps(found))
"""


def read(logdir) -> dict:
    """All that TensorBoard's accumulator finds in the folder."""
    reader = subprocess.run([sys.executable, "-c", READER, str(logdir)], check=True, capture_output=True, text=True)
    return json.loads(reader.stdout)


def test_what_was_written_is_what_tensorboard_reads(tmp_path):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (2, 6, 9, 3), np.uint8)
    depth = np.append(rng.uniform(4, 300, 997), [np.nan, np.inf, 3.0])
    edges = np.geomspace(4, 300, 9)
    with EventWriter(tmp_path / "made" / "tensorboard") as writer:
        writer.scalars({"val_miou": np.float64(71.25), "val_silog": np.array([16.5], np.float32)[0]}, step=3)
        writer.image("predictions", pictures, step=3)
        writer.histogram("depth", depth, step=3, bins=edges)
        writer.custom_scalars_layout({"Report": {"Grader": ["val_grader$"], "Depth": ["a$", "b$"]}})
    found = read(tmp_path / "made" / "tensorboard")

    assert found["scalars"] == {"val_miou": [[3, 71.25]], "val_silog": [[3, 16.5]]}
    plugins = [found["plugins"][tag] for tag in ("predictions", "depth")]
    assert plugins == ["images", "histograms"]
    [[step, parts]] = found["tensors"]["predictions"]
    width, height, *files = (base64.b64decode(part) for part in parts)
    assert (step, int(width), int(height)) == (3, 9, 6)
    decoded = [np.asarray(Image.open(io.BytesIO(file))) for file in files]
    np.testing.assert_array_equal(decoded, pictures)
    [[_, buckets]] = found["tensors"]["depth"]
    counts = [int(((depth >= low) & (depth < high)).sum()) for low, high in zip(edges, edges[1:], strict=False)]
    np.testing.assert_array_equal(buckets, np.stack([edges[:-1], edges[1:], counts], -1))
    assert sum(counts) == 997
    assert found["layout"] == {"Report": {"Grader": ["val_grader$"], "Depth": ["a$", "b$"]}}


def test_hyper_parameters_of_every_kind_become_columns(tmp_path):
    hparams = {
        "topology": "joint",
        "learning_rate": np.float32(0.5),
        "batch_size": 4,
        "aspp": True,
        "crop": (256, 512),
        "pretrained": None,
        "limit": float("inf"),
        "loss": {"semseg_weight": 0.5, "depth": {"kind": "mse"}},
        "data": tmp_path,
    }
    with EventWriter(tmp_path) as writer:
        writer.hparams(hparams)
        writer.hparams(hparams, metrics={"best/val_grader": 66.5}, step=15)
    found = read(tmp_path)
    assert found["sessions"]["_hparams_/session_start_info"] == {
        "topology": "joint",
        "learning_rate": 0.5,
        "batch_size": 4,
        "aspp": True,
        "crop": "[256, 512]",
        "pretrained": "null",
        "limit": "inf",
        "loss.semseg_weight": 0.5,
        "loss.depth.kind": "mse",
        "data": str(tmp_path),
        "status": 0,
    }
    success = 1
    assert found["sessions"]["_hparams_/session_end_info"] == {"status": success}
    assert found["scalars"] == {"best/val_grader": [[15, 66.5]]}


def test_a_run_that_goes_on_replaces_the_steps_that_were_lost(tmp_path):
    expected = ([0, 1, 2, 3, 4], [0, 1, 2, 303, 304, 305], [0, 1, 202, 203])
    for purge_step, steps, values in zip((0, 3, 2), (range(5), range(3, 6), range(2, 4)), expected, strict=True):
        with EventWriter(tmp_path, purge_step or None) as writer:
            for step in steps:
                writer.scalars({"val_grader": step + 100 * purge_step}, step)
                writer.histogram("depth", np.arange(3.0), step, bins=2)
        found = read(tmp_path)
        assert found["scalars"]["val_grader"] == [[step, value] for step, value in enumerate(values)]
        assert [step for step, _ in found["tensors"]["depth"]] == list(range(len(values)))
    assert len(list(tmp_path.iterdir())) == 3


def test_a_new_writer_without_a_purge_step_keeps_everything(tmp_path):
    for value in (1, 2):
        with EventWriter(tmp_path) as writer:
            writer.scalars({"val_grader": value}, step=value)
    assert read(tmp_path)["scalars"]["val_grader"] == [[1, 1], [2, 2]]


def test_files_of_one_folder_sort_in_the_order_in_which_they_were_made(tmp_path):
    paths = []
    for _ in range(12):
        writer = EventWriter(tmp_path)
        writer.close()
        paths.append(writer.path)
    assert paths == sorted(tmp_path.iterdir(), key=lambda path: path.name)


def test_flushed_events_survive_a_writer_that_is_never_closed_and_a_torn_end(tmp_path):
    writer = EventWriter(tmp_path / "live")
    writer.scalars({"val_grader": 1}, step=0)
    writer.flush()
    torn = tmp_path / "torn"
    torn.mkdir()
    flushed = writer.path.read_bytes()
    writer.scalars({"val_grader": 2}, step=1)
    writer.flush()
    half_a_record = (len(flushed) + writer.path.stat().st_size) // 2
    (torn / writer.path.name).write_bytes(writer.path.read_bytes()[:half_a_record])
    assert read(tmp_path / "live")["scalars"]["val_grader"] == [[0, 1], [1, 2]]
    assert read(torn)["scalars"]["val_grader"] == [[0, 1]]
    writer.close()
    writer.close()


def test_memory_does_not_grow_with_the_run(tmp_path):
    with EventWriter(tmp_path) as writer:

        def epoch(number: int) -> None:
            for step in range(200):
                writer.scalars({"loss": 1.0}, 200 * number + step)
            writer.image("predictions", np.zeros((64, 64, 3), np.uint8), number)
            writer.flush()

        epoch(0)
        tracemalloc.start()
        epoch(1)
        after_two = tracemalloc.get_traced_memory()[0]
        for number in range(2, 8):
            epoch(number)
        grown = tracemalloc.get_traced_memory()[0] - after_two
        tracemalloc.stop()
    assert grown < 16 * 1024


@pytest.mark.parametrize("pixels", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 2), np.uint8)])
def test_what_is_no_picture_is_refused_before_anything_is_written(tmp_path, pixels):
    with EventWriter(tmp_path) as writer:
        size = writer.path.stat().st_size
        with pytest.raises(ValueError, match="PNG"):
            writer.image("predictions", pixels, step=0)
    assert writer.path.stat().st_size == size


def test_tensorflow_is_never_imported(tmp_path):
    program = f"""
import sys, numpy as np
from mtl_keras.event_writer import EventWriter
from mtl_keras.model_graph import GraphNode
with EventWriter({str(tmp_path)!r}, purge_step=0) as writer:
    writer.scalars({{"loss": 1.0}}, 0)
    writer.image("picture", np.zeros((4, 4), np.uint8), 0)
    writer.histogram("depth", np.arange(9.0), 0)
    writer.hparams({{"batch_size": 4}}, metrics={{"best/val_grader": 1.0}})
    writer.custom_scalars_layout()
    writer.graph([GraphNode("image", "Input", (), (None, 4, 4, 3), 0)])
assert "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | {"KERAS_BACKEND": "jax"})
