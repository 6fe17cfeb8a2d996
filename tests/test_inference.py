"""Prediction at an image's own size, checked against predictions by hand and properties that must hold."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

import zoo
from mtl_keras import MultiTaskModel, PixelNormalization, UserError
from mtl_keras.heads import Metres
from mtl_keras.inference import Options, _windows, padding_for, predict_images
from tests import harness


@pytest.fixture(scope="module")
def resnet() -> MultiTaskModel:
    keras.utils.set_random_seed(0)
    model = zoo.build("joint", encoder="resnet18", aspp=False, num_classes=5)
    harness.randomize(model)
    return model


@pytest.fixture(scope="module")
def tiny() -> MultiTaskModel:
    """One 3×3 convolution: what lies more than a pixel away does not matter."""
    keras.utils.set_random_seed(0)
    model = harness.tiny_model()
    harness.randomize(model)
    return model


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return harness.images(1, -(-height // 8) * 8, -(-width // 8) * 8, seed)[0, :height, :width].astype("uint8")


def test_any_size_is_padded_with_the_mean_colour_and_cropped_back(resnet):
    image = picture(50, 70)
    padded = np.full((1, 64, 80, 3), resnet.get_layer("normalization").mean, "float32")
    padded[0, :50, :70] = image
    expected = resnet.predict(padded, verbose=0)
    prediction = resnet.predict_images(image, logits=True, confidence=True)
    np.testing.assert_array_equal(prediction.logits, expected["semseg"][0, :50, :70])
    np.testing.assert_array_equal(prediction.depth, expected["depth"][0, :50, :70, 0])
    np.testing.assert_array_equal(prediction.semseg, prediction.logits.argmax(-1))
    powers = np.exp(prediction.logits.astype("float64"))
    np.testing.assert_allclose(prediction.confidence, (powers / powers.sum(-1, keepdims=True)).max(-1), rtol=1e-5)


def test_images_of_several_sizes_come_back_in_their_order(tiny):
    images = [picture(20, 30, 1), picture(20, 30, 2), picture(21, 13, 3), picture(20, 30, 4)]
    together = tiny.predict_images(images, batch_size=2)
    for image, prediction in zip(images, together, strict=True):
        alone = tiny.predict_images(image)
        assert prediction.depth.shape == image.shape[:2]
        np.testing.assert_allclose(prediction.depth, alone.depth, rtol=1e-5)
        np.testing.assert_array_equal(prediction.semseg, alone.semseg)


def test_files_are_seen_as_a_person_sees_them(tiny, tmp_path):
    image = picture(20, 30)
    Image.fromarray(image).save(tmp_path / "plain.png")
    sideways = Image.fromarray(np.rot90(image).copy())
    exif = sideways.getexif()
    exif[0x0112] = 6  # turned by 90° clockwise for display
    sideways.save(tmp_path / "sideways.png", exif=exif)
    Image.fromarray(image).convert("RGBA").save(tmp_path / "opaque.png")
    expected = tiny.predict_images(image)
    for prediction in tiny.predict_images([tmp_path / f"{name}.png" for name in ("plain", "sideways", "opaque")]):
        np.testing.assert_array_equal(prediction.depth, expected.depth)
    grey = Image.fromarray(image).convert("L")
    grey.save(tmp_path / "grey.png")
    expected = tiny.predict_images(np.repeat(np.asarray(grey)[..., None], 3, axis=-1))
    np.testing.assert_array_equal(tiny.predict_images(tmp_path / "grey.png").depth, expected.depth)


def test_depth_stays_in_the_range_of_the_dataset(tiny, monkeypatch):
    raw = keras.ops.convert_to_numpy(tiny(picture(40, 40)[None].astype("float32"))["depth"])
    near, far = (float(limit) for limit in np.quantile(raw, (0.2, 0.8)))
    monkeypatch.setattr(tiny, "spec", dataclasses.replace(tiny.spec, depth_range=(near, far)))
    depth = tiny.predict_images(picture(40, 40)).depth
    assert depth.min() == np.float32(near) and depth.max() == np.float32(far)


def test_flip_makes_predictions_mirror_with_the_image(resnet):
    image = picture(64, 96)
    plain = resnet.predict_images(image)
    assert harness.relative_error(resnet.predict_images(image[:, ::-1]).depth[:, ::-1], plain.depth) > 1e-3
    prediction = resnet.predict_images(image, flip=True, logits=True)
    mirrored = resnet.predict_images(image[:, ::-1], flip=True, logits=True)
    np.testing.assert_allclose(mirrored.depth[:, ::-1], prediction.depth, rtol=1e-4)
    np.testing.assert_allclose(mirrored.logits[:, ::-1], prediction.logits, atol=1e-3)


def test_flip_averages_probabilities_and_the_logarithm_of_depth(resnet):
    image = picture(64, 96)
    views = [resnet.predict_images(image, logits=True), resnet.predict_images(image[:, ::-1], logits=True)]
    powers = [np.exp(view.logits.astype("float64")) for view in views]
    probabilities = [power / power.sum(-1, keepdims=True) for power in powers]
    expected = (probabilities[0] + probabilities[1][:, ::-1]) / 2
    prediction = resnet.predict_images(image, flip=True, confidence=True)
    np.testing.assert_allclose(prediction.confidence, expected.max(-1), rtol=1e-4)
    depth = np.sqrt(views[0].depth.astype("float64") * views[1].depth[:, ::-1])
    np.testing.assert_allclose(prediction.depth, depth, rtol=1e-5)


def test_scaled_views_multiply_metres_by_the_scale():
    """Of a model that says 20 m of every pixel, the view at half the size speaks of 10 m at the full one."""
    image = keras.Input((None, None, 3), name="image")
    x = PixelNormalization((0.0,) * 3, (1.0,) * 3, 2, name="normalization")(image)
    logits = layers.Conv2D(4, 1, name="semseg")(x)
    depth = Metres(20.0, 1.0, name="metres")(layers.Conv2D(1, 1, kernel_initializer="zeros", name="depth")(x))
    model = MultiTaskModel(image, {"semseg": logits, "depth": depth}, spec=harness.spec())
    prediction = model.predict_images(picture(40, 60), scales=(0.5, 1.0, 2.0))
    np.testing.assert_allclose(prediction.depth, 20.0, rtol=1e-5)
    np.testing.assert_allclose(model.predict_images(picture(40, 60), scales=(0.5,)).depth, 10.0, rtol=1e-5)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.8])
def test_windows_cover_an_axis_and_blend_where_they_overlap(overlap):
    windows = _windows(103, 32, overlap)
    total = np.zeros(103)
    for (begin, end), weight in windows:
        assert end - begin == len(weight) == 32 and 0 <= begin and end <= 103
        total[begin:end] += weight
    assert (total > 0).all()
    overlaps = [first[0][1] - second[0][0] for first, second in zip(windows, windows[1:], strict=False)]
    assert min(overlaps) >= overlap * 32 - 1
    assert _windows(20, 32, overlap) == [((0, 20), pytest.approx(np.ones(20)))]


def test_sliding_windows_differ_by_their_padding_only(tiny):
    """With one 3×3 convolution, only the outermost pixel of a window differs, and its weight is the least."""
    image = picture(70, 90)
    whole = tiny.predict_images(image, confidence=True)
    windowed = tiny.predict_images(image, confidence=True, window=(32, 32), overlap=0.5)
    error = np.abs(windowed.depth / whole.depth - 1)
    touched = np.zeros(image.shape[:2], bool)
    for axis, side in enumerate(image.shape[:2]):
        for (begin, end), _ in _windows(side, 32, 0.5):
            edges = [i for i in (begin, end - 1) if 0 < i < side - 1]
            touched[edges if axis == 0 else np.s_[:, edges]] = True
    assert error[~touched].max() < 1e-5
    # An edge pixel weighs half a step of the blend, 1/32, against its fellow from within the next window.
    edge_only = harness.relative_error(tiny.predict_images(image[:32, :32]).depth, whole.depth[:32, :32])
    assert 0 < error[touched].max() < 2 / 32 * 2 * max(edge_only, 1.0)


def test_sliding_windows_leave_no_seam(resnet):
    """Steps between neighbours are no larger along the windows' edges than elsewhere."""
    image = picture(160, 160)
    depth = np.log(resnet.predict_images(image, window=(64, 64), overlap=0.5).depth)
    steps = np.abs(np.diff(depth, axis=1))
    edges = [i for (begin, end), _ in _windows(160, 64, 0.5) for i in (begin - 1, end - 1) if 0 <= i < 159]
    assert steps[:, edges].mean() < 1.5 * steps.mean()


def test_a_window_larger_than_the_image_is_the_whole_image(resnet):
    image = picture(50, 70)
    prediction = resnet.predict_images(image, window=(512, 512))
    np.testing.assert_allclose(prediction.depth, resnet.predict_images(image).depth, rtol=1e-6)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"scales": (0.0,)}, "scales"),
        ({"scales": ()}, "scales"),
        ({"window": (64, 0)}, "window"),
        ({"overlap": 1.0}, "overlap"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"scales": 1.5}, "scales"),
        ({"window": 512}, "window"),
    ],
)
def test_an_option_out_of_its_range_is_named(options, message):
    with pytest.raises(UserError, match=f"^{message}: .*; give "):
        Options(**options)


def test_what_is_no_image_is_named(tiny, tmp_path):
    (tmp_path / "notes.png").write_text("no image")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "depth.png")
    for file, reason in (("notes.png", "not a PNG or JPEG"), ("depth.png", "8 bits"), ("none.png", "No such file")):
        with pytest.raises(UserError, match=f"{file}: .*{reason}"):
            tiny.predict_images(tmp_path / file)
    with pytest.raises(UserError, match="a Pillow image: mode I;16, expected 8 bits a channel"):
        tiny.predict_images(Image.fromarray(np.zeros((4, 4), np.uint16)))
    for images in ([np.zeros((4, 4))], None, 7):
        with pytest.raises(UserError, match="an image has shape"):
            predict_images(tiny, images, Options())
    for pixels in (np.full((4, 4, 3), 256, np.uint16), np.full((4, 4, 3), np.nan), np.full((4, 4, 3), -1)):
        with pytest.raises(UserError, match=f"an image of {pixels.dtype} has values that are not within 0 and 255"):
            predict_images(tiny, pixels, Options())


def test_padding_to_the_next_multiple():
    assert [padding_for(side, 16) for side in (1, 15, 16, 17, 32)] == [15, 1, 0, 15, 0]


def test_a_network_that_normalises_nothing_predicts_images_of_any_size():
    image = keras.Input((None, None, 3))
    outputs = {"semseg": layers.Conv2D(4, 1)(image), "depth": layers.Conv2D(1, 1)(image)}
    model = MultiTaskModel(image, outputs, spec=harness.spec())
    assert (model.output_stride, model.padding_color) == (1, (0.0, 0.0, 0.0))
    assert model.predict_images(picture(31, 47)).semseg.shape == (31, 47)
