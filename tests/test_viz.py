"""Pictures show what the arrays say: colours against closed forms, the grid's cells, the figures' numbers."""

import io
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mtl_keras import viz
from mtl_keras.data.spec import MINISCAPES
from mtl_keras.viz.colors import depth_color_table
from mtl_keras.viz.panels import log_ticks

HEIGHT, WIDTH = 80, 160


@pytest.fixture
def samples():
    """Two samples: images, labels, and predictions that a distillation model would give."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, HEIGHT, WIDTH, 3), np.uint8)
    semseg = rng.integers(0, 19, (2, HEIGHT, WIDTH))
    semseg[0, 0, :5] = 255
    depth = rng.uniform(10, 40, (2, HEIGHT, WIDTH, 1)).astype(np.float32)
    depth[1] *= 5
    depth[:, :20] = 0
    logits = rng.normal(size=(2, HEIGHT, WIDTH, 19)).astype(np.float32)
    predictions = {
        "semseg_initial": -logits,
        "depth_initial": np.full_like(depth, 4),
        "semseg": logits,
        "depth": rng.uniform(4, 300, depth.shape).astype(np.float32),
    }
    return images, {"semseg": semseg, "depth": depth}, predictions


def find(page: np.ndarray, cell: np.ndarray) -> tuple[int, int]:
    """Row and column of the only place in the page where the cell is."""
    height, width = cell.shape[:2]
    starts = np.argwhere((page[: -height + 1, : -width + 1] == cell[0, 0]).all(-1))
    places = [(int(y), int(x)) for y, x in starts if (page[y : y + height, x : x + width] == cell).all()]
    assert len(places) == 1
    return places[0]


def oklab(rgb: np.ndarray) -> np.ndarray:
    """OKLab of uint8 sRGB, by the forward matrices of Ottosson's page."""
    srgb = rgb / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_lms = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    to_lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return np.cbrt(linear @ to_lms.T) @ to_lab.T


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_semseg_takes_the_palette_and_black_outside_the_classes(dtype):
    ids = np.array([[0, 13, 18], [19, 255, 10]], dtype)
    expected = [[(128, 64, 128), (0, 0, 142), (119, 11, 32)], [(0, 0, 0), (0, 0, 0), (70, 130, 180)]]
    np.testing.assert_array_equal(viz.colorize_semseg(ids, MINISCAPES), expected)
    assert viz.colorize_semseg(np.array([[-1]]), MINISCAPES).tolist() == [[[0, 0, 0]]]


def test_depth_colours_are_logarithmic_and_clamped_to_the_range():
    table = depth_color_table()
    metres = np.array([[4.0, 1.0, 300.0, 5000.0, np.sqrt(4 * 300)]])
    colors = viz.colorize_depth(metres, (4, 300))[0]
    np.testing.assert_array_equal(colors[:4], table[[0, 0, 255, 255]])
    assert colors[4].tolist() in table[[127, 128]].tolist()
    with_channel = viz.colorize_depth(metres[..., None], (4, 300))
    np.testing.assert_array_equal(with_channel[0], colors)


def test_depth_colour_map_has_even_steps_and_falling_lightness():
    lab = oklab(depth_color_table())
    assert (np.diff(lab[::4, 0]) < 0).all()
    # Over sixteen entries, so that rounding to 8 bits hardly counts.
    steps = np.linalg.norm(np.diff(lab[::16], axis=0), axis=-1)
    assert steps.max() / steps.min() < 1.15


def test_invalid_depth_is_a_grey_checkerboard_unlike_any_depth():
    metres = np.full((32, 32), 20.0)
    metres[:, :16] = 0
    metres[:8, 16:] = np.nan
    metres[8:16, 16:] = -3
    colors = viz.colorize_depth(metres, (4, 300)).astype(int)
    invalid = ~(metres > 0)
    assert (np.ptp(colors[invalid], axis=-1) == 0).all()
    assert len(np.unique(colors[invalid])) == 2
    assert colors[0, 0, 0] != colors[0, 8, 0] == colors[8, 0, 0] != colors[8, 8, 0]
    assert np.ptp(depth_color_table().astype(int), axis=-1).min() > 40


def test_a_scene_at_one_distance_takes_the_middle_colour():
    assert viz.colorize_depth(np.full((2, 2), 7.0), (7, 7))[0, 0].tolist() in depth_color_table()[[127, 128]].tolist()
    with pytest.raises(ValueError, match="near"):
        viz.colorize_depth(np.ones((2, 2)), (0, 300))


def test_overlay_blends_and_leaves_ignored_pixels_alone():
    image = np.full((1, 2, 3), 100, np.uint8)
    blend = viz.overlay(image, np.array([[11, 255]]), MINISCAPES, alpha=0.25)
    # person: 220, 20, 60
    np.testing.assert_array_equal(blend, [[[130, 80, 90], [100, 100, 100]]])


def test_grid_has_a_column_a_sample_and_the_final_predictions(samples):
    images, labels, predictions = samples
    page = viz.prediction_grid(images, labels, predictions, MINISCAPES)
    places = []
    for index in range(2):
        true = labels["depth"][index]
        true_range = (float(true[true > 0].min()), float(true.max()))
        cells = [
            images[index],
            viz.colorize_semseg(labels["semseg"][index], MINISCAPES),
            viz.colorize_semseg(predictions["semseg"][index].argmax(-1), MINISCAPES),
            viz.colorize_depth(true, true_range),
            viz.colorize_depth(predictions["depth"][index], true_range),
        ]
        places.append([find(page, cell) for cell in cells])
    rows, columns = np.array(places)[..., 0], np.array(places)[..., 1]
    assert (rows[0] == rows[1]).all() and (np.diff(rows[0]) >= HEIGHT).all()
    assert (columns == columns[:, :1]).all() and columns[1, 0] - columns[0, 0] >= WIDTH


def test_grid_takes_ids_for_logits_and_depth_without_a_channel(samples):
    images, labels, predictions = samples
    page = viz.prediction_grid(images, labels, predictions, MINISCAPES)
    labels = {"semseg": labels["semseg"], "depth": labels["depth"][..., 0]}
    predictions = {"semseg": predictions["semseg"].argmax(-1), "depth": predictions["depth"][..., 0]}
    np.testing.assert_array_equal(viz.prediction_grid(images, labels, predictions, MINISCAPES), page)


def test_grid_without_labels_shows_predictions_over_the_datasets_range(samples):
    images, labels, predictions = samples
    page = viz.prediction_grid(images, None, predictions, MINISCAPES)
    find(page, viz.colorize_depth(predictions["depth"][0], MINISCAPES.depth_range))
    with_labels = viz.prediction_grid(images, labels, predictions, MINISCAPES)
    assert with_labels.shape[0] - page.shape[0] == 2 * (HEIGHT + 4)


def test_grid_uses_the_datasets_range_where_no_true_depth_is_valid(samples):
    images, labels, predictions = samples
    labels["depth"] = np.zeros_like(labels["depth"])
    page = viz.prediction_grid(images, labels, predictions, MINISCAPES)
    find(page, viz.colorize_depth(predictions["depth"][1], MINISCAPES.depth_range))


def test_grid_scales_wide_images_down_and_keeps_their_aspect(samples):
    images, labels, predictions = samples
    page = viz.prediction_grid(images, labels, predictions, MINISCAPES, cell_width=(40, 80))
    find(page, viz.colorize_semseg(labels["semseg"][0], MINISCAPES)[1::2, 1::2])


def test_grid_names_what_does_not_fit(samples):
    images, labels, predictions = samples
    with pytest.raises(ValueError, match=r"labels\['depth'\] has 1 samples"):
        viz.prediction_grid(images, labels | {"depth": labels["depth"][:1]}, predictions, MINISCAPES)
    with pytest.raises(ValueError, match="images has shape"):
        viz.prediction_grid(images[0], labels, predictions, MINISCAPES)


def test_talk_picture_names_the_classes_that_are_there():
    image = np.full((64, 128, 3), 90, np.uint8)
    semseg = np.full((64, 128), 0)
    semseg[:, :20] = 13
    depth = np.full((64, 128), 30.0)
    picture = np.asarray(viz.side_by_side(image, semseg, depth, MINISCAPES, dpi=50))
    height, width = picture.shape[:2]
    panel_end = np.flatnonzero((picture[:, width // 12] == 90).all(-1)).max()
    foot = picture[panel_end + 2 :].reshape(-1, 3)

    def drawn(color) -> bool:
        return bool((foot == color).all(-1).any())

    assert [name for name, color in zip(MINISCAPES.classes, MINISCAPES.palette, strict=True) if drawn(color)] == [
        "road",
        "car",
    ]
    # The depth bar runs over the whole colour map, its ends but a resampling step away.
    distances = np.abs(foot[:, None].astype(int) - depth_color_table()[[0, 128, 255]]).max(-1).min(0)
    assert (distances <= 8).all()


def test_depth_bar_has_round_logarithmic_ticks():
    assert log_ticks(4, 300) == [5, 10, 20, 50, 100, 200]
    assert log_ticks(0.5, 10) == [0.5, 1, 2, 5, 10]
    assert log_ticks(0.5, 80) == [0.5, 1, 5, 10, 50]
    # A range that holds fewer than two of them is still a scale.
    assert log_ticks(6.5, 9) == [6.5, 9] and log_ticks(30, 60) == [30, 60]


def test_history_draws_the_three_curves_and_names_the_best_epoch(tmp_path):
    metrics = {
        "miou": [60, 70, 80],
        "val_miou": [55, 66.5, 64],
        "silog": [30, 25, 20],
        "val_silog": [31, None, 28.25],
        "grader": [20, 30, 40],
        "val_grader": [10.5, float("nan"), 21],
        "loss": [3, 2, 1],
    }
    figure = viz.plot_history(metrics, tmp_path / "history.png")
    panels = {axes.get_title("left"): axes for axes in figure.axes}
    assert list(panels) == ["Grader", "Semseg: mIoU", "Depth: SI-logRMSE"]
    assert [axes.texts[0].get_text() for axes in panels.values()] == ["21.00", "66.50 %", "28.25"]
    validation = panels["Depth: SI-logRMSE"].lines[1]
    assert validation.get_xdata().tolist() == [1, 3] and validation.get_ydata().tolist() == [31, 28.25]
    with Image.open(tmp_path / "history.png") as picture:
        assert picture.size == (2208, 560)
    with pytest.raises(ValueError, match="grader"):
        viz.plot_history({"loss": [1.0]})


def test_epochs_that_are_all_alike_have_no_best():
    figure = viz.plot_history({"val_grader": [0.0, 0.0], "val_miou": [1.0, 2.0]})
    assert [len(axes.texts) for axes in figure.axes] == [0, 1]


def test_confusion_shows_recall_and_iou():
    figure = viz.plot_confusion(np.array([[6, 2, 0], [2, 10, 0], [0, 0, 0]]), ("road", "car", "train"))
    written = [text.get_text() for text in figure.axes[0].texts]
    # Rows in percent: 6/8, 2/8, 2/12, 10/12; IoU: 6/10, 10/14, no pixel at all.
    assert written == ["75", "25", "17", "83", "IoU, %", "60.0", "71.4", "–"]
    with pytest.raises(ValueError, match="shape"):
        viz.plot_confusion(np.zeros((2, 3)), ("road", "car"))


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4)])
def test_png_round_trip(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    decoded = np.asarray(Image.open(io.BytesIO(viz.encode_png(pixels))))
    np.testing.assert_array_equal(decoded, pixels.reshape(decoded.shape))


def test_png_refuses_what_is_not_pixels():
    with pytest.raises(ValueError, match="float32"):
        viz.encode_png(np.zeros((4, 4, 3), np.float32))
    with pytest.raises(ValueError, match=r"\(4, 4, 2\)"):
        viz.encode_png(np.zeros((4, 4, 2), np.uint8))


def test_a_failed_write_leaves_the_old_picture_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    viz.save_png(path, np.zeros((4, 4), np.uint8))
    before = path.read_bytes()

    def half_written(self, data):
        with self.open("wb") as file:
            file.write(data[:5])
        raise OSError("No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_bytes", half_written)
    with pytest.raises(OSError, match="No space"):
        viz.save_png(path, np.ones((4, 4), np.uint8))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_grids_need_no_matplotlib():
    program = """
import sys
sys.modules["matplotlib"] = None  # importing it fails
import numpy as np
from mtl_keras import viz
from mtl_keras.data.spec import MINISCAPES
images, ids, depth = np.zeros((1, 32, 32, 3), np.uint8), np.zeros((1, 32, 32), int), np.full((1, 32, 32), 9.0)
viz.encode_png(viz.prediction_grid(images, None, {"semseg": ids, "depth": depth}, MINISCAPES))
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_figures_leave_nothing_in_pyplots_global_state():
    program = """
import numpy as np
from mtl_keras import viz
from mtl_keras.data.spec import MINISCAPES
image, ids, depth = np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), int), np.full((32, 32), 9.0)
viz.side_by_side(image, ids, depth, MINISCAPES, dpi=20)
viz.plot_history({"grader": [1.0]})
viz.plot_confusion(np.eye(2), ("a", "b"))
from matplotlib import pyplot
assert pyplot.get_fignums() == []
"""
    subprocess.run([sys.executable, "-c", program], check=True)
