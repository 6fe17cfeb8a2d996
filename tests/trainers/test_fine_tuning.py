"""The flags for fine-tuning: what starts from where, what moves and what stays."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

import zoo
from mtl_keras import UserError, backend
from mtl_keras.checkpoints import weights_of, write_tensors
from mtl_keras.data.spec import numbered_classes
from tests.harness import images, labels, randomize, relative_error, spec, tiny_model
from trainers import session
from trainers.assemble import compile_model, make_model
from trainers.config import RunConfig
from trainers.session import Session

LIGHT = {"arch": "joint", "encoder": "resnet18", "aspp": False, "skip": False, "dilation": (False, False, False)}
SETTINGS = {**LIGHT, "crop": (64, 64), "batch_size": 2, "optimizer": "adam", "learning_rate": 1e-3}
STEPS_PER_EPOCH = 2


@pytest.fixture(scope="module")
def trained(module_path):
    """A model of 4 classes, and the folder of the run that it is the best of."""
    model = zoo.build(**LIGHT, spec=spec(4))
    randomize(model)
    facts = {"architecture": model.architecture, "spec": model.spec.to_dict()}
    write_tensors(module_path / "checkpoints" / "best.safetensors", weights_of(model), facts)
    return model, str(module_path)


def change(**settings):
    """For every weight how far two epochs of two steps move it: after the first epoch, and in the second."""
    model = make_model(RunConfig(**SETTINGS, **settings), spec(4))
    compile_model(RunConfig(**SETTINGS, **settings), model, STEPS_PER_EPOCH)
    states = [weights_of(model)]
    for epoch in range(2):
        for step in range(STEPS_PER_EPOCH):
            seed = epoch * STEPS_PER_EPOCH + step
            model.train_on_batch(images(2, 64, 64, seed=seed), labels(2, 64, 64, num_classes=4, seed=seed))
        states.append(weights_of(model))
    return [
        {name: float(np.abs(after[name] - before[name]).max()) for name in before}
        for before, after in zip(states, states[1:], strict=False)
    ]


def is_batch_norm(name):
    return name.rpartition("/")[2] in ("gamma", "beta", "moving_mean", "moving_variance")


def test_a_frozen_encoder_waits_for_its_epoch_and_then_learns_slowly(trained):
    """Adam's first steps are of the learning rate's size, whatever the gradient's; for the encoder they come late."""
    first, second = change(init_from=trained[1], freeze_encoder_epochs=1, freeze_batch_norm=True, encoder_lr_scale=0.01)
    rate = 1e-3 * (1 - 1 / 16) ** 0.9
    for name in first:
        if not name.startswith("encoder/"):
            assert first[name] > 0 and second[name] > 0, name
        elif is_batch_norm(name):
            assert first[name] == second[name] == 0, name
        else:
            assert first[name] == 0 and 0.01 * rate < second[name] < 0.02 * rate + 1e-6, name


def test_pretrained_takes_the_encoder_of_a_run_alone(trained):
    model, run = trained
    copy = make_model(RunConfig(**{**SETTINGS, "arch": "branched"}, pretrained=run), spec(7))
    old, new = weights_of(model), weights_of(copy)
    names = [name for name in new if name.startswith("encoder/")]
    assert len(names) == 100
    for name in names:
        np.testing.assert_array_equal(new[name], old[name])


def test_init_from_takes_all_under_any_dilation(trained):
    model, run = trained
    copy = make_model(RunConfig(**{**SETTINGS, "dilation": (False, True, True)}, init_from=run), spec(4))
    assert copy.architecture["dilation"] == (False, True, True)
    for name, value in weights_of(copy).items():
        np.testing.assert_allclose(value, weights_of(model)[name], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    "arch, classes, replaced",
    [("joint", 4, "shared_predictor"), ("branched", 4, "semseg_predictor"), ("branched", 1, "semseg_predictor")],
)
def test_another_class_count_replaces_the_classes_channels_alone(arch, classes, replaced, tmp_path, caplog):
    caplog.set_level("INFO", "zoo")
    model = zoo.build(**{**LIGHT, "arch": arch}, spec=spec(classes))
    randomize(model)
    model.save(tmp_path / "model.keras")
    city = dataclasses.replace(spec(7), depth_mean=20.0, depth_std=10.0, depth_range=(1.0, 80.0))
    copy = zoo.load(tmp_path / "model.keras", spec=city)
    assert copy.spec == city and copy.output["semseg"].shape[-1] == 7
    old, new = weights_of(model), weights_of(copy)
    changed = {name.partition("/")[0] for name in new if old[name].shape != new[name].shape}
    assert changed == {replaced}
    (message,) = (message for message in caplog.messages if f"7 classes instead of {classes}" in message)
    assert f"{replaced}/predict" in message
    image = images(1, 64, 64)
    metres = copy.predict_on_batch(image)["depth"], model.predict_on_batch(image)["depth"]
    assert relative_error(*metres) < 1e-5


def test_weights_that_do_not_fit_are_refused(trained):
    _, run = trained
    for options, name in (({"arch": "branched"}, "depth_projection"), ({"encoder": "resnet34"}, "encoder/layer1_2")):
        with pytest.raises(UserError, match=f"does not fit at '{name}.*built with arch joint, encoder resnet18"):
            zoo.load(run, **options)
    with pytest.raises(UserError, match="leave one of them out"):
        RunConfig(pretrained="imagenet", init_from=run)


def test_a_state_needs_no_weights_to_begin_with(monkeypatch):
    data = SimpleNamespace(train=SimpleNamespace(dataset=SimpleNamespace(spec=spec(4))))
    monkeypatch.setattr(session, "make_splits", lambda *_: data)
    monkeypatch.setattr(session.same_data, "check", lambda *_: None)
    config = RunConfig(**SETTINGS, init_from="gone")
    with pytest.raises(UserError, match="gone: no such run"):
        Session.of(config, backend.Parallel())
    assert Session.of(config, backend.Parallel(), (3, {}, {})).model.architecture["arch"] == "joint"


def test_load_for_a_number_of_classes(trained):
    model, run = trained
    assert zoo.load(run, num_classes=4).spec == model.spec
    assert zoo.load(run, num_classes=7).spec == numbered_classes(7, like=model.spec)
    for none in (0, 256, "a"):
        with pytest.raises(UserError, match=f"num_classes: {none!r} is no number of classes; give 1 to 255"):
            zoo.load(run, num_classes=none)


def test_other_dilation_leaves_every_weight_as_it_was(trained):
    model, run = trained
    old, new = weights_of(model), weights_of(zoo.load(run, dilation=(False, True, True)))
    assert all(np.array_equal(old[name], new[name]) for name in old) and len(old) == len(new)
    with pytest.raises(UserError, match="dilate: no option of zoo.build"):
        zoo.load(run, dilate=True)
    with pytest.raises(UserError, match="weights: no option of zoo.build"):
        zoo.load(run, weights="imagenet")


def test_a_model_that_does_not_say_how_it_was_built_is_refused(tmp_path):
    tiny_model().save(tmp_path / "own.keras")
    with pytest.raises(UserError, match="own.keras: does not say how it was built; give a model that zoo.build made"):
        zoo.load(tmp_path / "own.keras", num_classes=7)
