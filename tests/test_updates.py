"""Accumulated and clipped gradients, averaged weights, skipped steps: against PyTorch, a larger batch, closed forms."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops

from mtl_keras import SGD, Adam, MultiTaskModel, PixelNormalization, PolyDecay
from mtl_keras.averaging import AveragedWeights
from mtl_keras.checkpoints import restore_training_state, training_state, weights_of
from mtl_keras.heads import Metres
from mtl_keras.optimizers import AdamW, unwrapped
from tests import harness

OPTIMIZERS = {"SGD": SGD, "Adam": Adam, "AdamW": AdamW}


def model_without_batch_norm() -> MultiTaskModel:
    keras.utils.set_random_seed(0)
    spec = harness.spec()
    image = keras.Input((None, None, 3), name="image")
    x = PixelNormalization((127.5,) * 3, (64.0,) * 3, 2, name="normalization")(image)
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv")(x)
    x = layers.Conv2D(5, 1, dtype="float32", name="predict")(x)
    depth = Metres(spec.depth_mean, spec.depth_std, name="metres")(x[..., -1:])
    return MultiTaskModel(image, {"semseg": x[..., :-1], "depth": depth}, spec=spec)


def batch(seed: int, images: int = 2):
    """Every pixel valid, so that a mean over batches is the mean over all their pixels."""
    rng = np.random.default_rng(seed)
    labels = harness.labels(images, 32, 32, num_classes=4, seed=seed)
    labels["semseg"] = np.where(labels["semseg"] == 255, 0, labels["semseg"])
    labels["depth"] = np.where(labels["depth"] == 0, 20, labels["depth"]).astype("float32")
    return rng.uniform(0, 255, (images, 32, 32, 3)).astype("float32"), labels


def joined(*batches):
    images, labels = zip(*batches, strict=True)
    names = labels[0]
    return np.concatenate(images), {name: np.concatenate([label[name] for label in labels]) for name in names}


def trained(optimizer, batches, model=None) -> MultiTaskModel:
    model = model or model_without_batch_norm()
    if not model.compiled:
        model.compile(optimizer)
        model.optimizer.build(model.trainable_variables)
    for images, labels in batches:
        model.train_on_batch(images, labels)
    return model


def value_of(variable) -> float:
    return float(ops.convert_to_numpy(variable))


def assert_same_weights(actual, expected, **tolerance):
    actual, expected = weights_of(actual), weights_of(expected)
    for name in expected:
        np.testing.assert_allclose(actual[name], expected[name], err_msg=name, **(tolerance or {"rtol": 0, "atol": 0}))


class TestAccumulation:
    @pytest.mark.parametrize("name", OPTIMIZERS)
    def test_equals_the_larger_batch(self, name):
        """Six steps of two images, three a move, as two steps of six; with weight decay and clipping."""
        options = {"learning_rate": 0.01, "weight_decay": 0.01, "global_clipnorm": 0.5}
        batches = [batch(seed) for seed in range(6)]
        small = trained(OPTIMIZERS[name](**options, gradient_accumulation_steps=3), batches)
        large = trained(OPTIMIZERS[name](**options), [joined(*batches[:3]), joined(*batches[3:])])
        assert_same_weights(small, large, rtol=1e-4, atol=2e-6)

    def test_weights_stay_until_the_last_step(self):
        model = trained(Adam(0.01, gradient_accumulation_steps=3), [])
        before = weights_of(model)
        trained(None, [batch(0), batch(1)], model)
        for name, value in weights_of(model).items():
            np.testing.assert_array_equal(value, before[name])
        trained(None, [batch(2)], model)
        assert np.abs(weights_of(model)["predict/kernel"] - before["predict/kernel"]).max() > 1e-3

    def test_the_schedule_goes_by_epochs_of_steps(self):
        """Four steps an epoch, two moves each: the second epoch's moves are those of its rate."""
        optimizer = SGD(PolyDecay(0.1, 2, 4), momentum=0.0, gradient_accumulation_steps=2)
        weight = keras.Variable(np.zeros(()), dtype="float32")
        moved = []
        for _ in range(8):
            before = value_of(weight)
            optimizer.apply([ops.ones(())], [weight])
            moved.append(before - value_of(weight))
        expected = [0, 0.1, 0, 0.1, 0, 0.1 * 0.5**0.9, 0, 0.1 * 0.5**0.9]
        np.testing.assert_allclose(moved, expected, atol=1e-7)

    @pytest.mark.parametrize("stop", [1, 2, 3])
    def test_goes_on_exactly_from_any_step(self, stop):
        def start():
            return trained(Adam(0.01, gradient_accumulation_steps=2, ema=0.9, name="adam"), [])

        batches = [batch(seed) for seed in range(5)]
        whole, before, after = start(), start(), start()
        trained(None, batches, whole)
        trained(None, batches[:stop], before)
        restore_training_state(after, training_state(before))
        trained(None, batches[stop:], after)
        for name, value in training_state(whole).items():
            np.testing.assert_array_equal(training_state(after)[name], value, err_msg=name)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_clipping_is_torchs(name, scale):
    """The norm is that of all gradients together, before the weight decay."""
    rng = np.random.default_rng(0)
    start = [rng.normal(size=shape).astype("float32") for shape in ((5, 4), (7,))]
    steps = [[scale * rng.normal(size=value.shape).astype("float32") for value in start] for _ in range(4)]
    ours = [keras.Variable(value) for value in start]
    optimizer = OPTIMIZERS[name](0.01, weight_decay=0.1, global_clipnorm=0.3)
    theirs = [torch.nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in start]
    options = {"momentum": 0.9} if name == "SGD" else {}
    peer = getattr(torch.optim, name)(theirs, lr=0.01, weight_decay=0.1, **options)
    for step in steps:
        optimizer.apply([ops.convert_to_tensor(gradient) for gradient in step], ours)
        for parameter, gradient in zip(theirs, step, strict=True):
            parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        torch.nn.utils.clip_grad_norm_(theirs, 0.3)
        peer.step()
    for actual, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(actual), expected.detach().numpy(), rtol=2e-5, atol=1e-6)


class TestAverages:
    def test_follow_the_formula(self):
        """Weights that go 1, 2, 3, …: against the recurrence in float64."""
        optimizer = SGD(1.0, momentum=0.0, ema=0.25)
        weight = keras.Variable(np.zeros(()), dtype="float32")
        average = None
        for n in range(1, 9):
            optimizer.apply([-ops.ones(())], [weight])
            decay = min(0.25, (n - 1) / (n + 8))
            average = n if average is None else decay * average + (1 - decay) * n
            assert value_of(optimizer.averages[0]) == pytest.approx(average, rel=1e-6)

    def test_move_once_with_the_weights_when_gradients_accumulate(self):
        batches = [batch(seed) for seed in range(4)]
        small = trained(Adam(0.01, gradient_accumulation_steps=2, ema=0.9), batches)
        large = trained(Adam(0.01, ema=0.9), [joined(*batches[:2]), joined(*batches[2:])])
        for actual, expected in zip(small.optimizer.averages, large.optimizer.averages, strict=True):
            np.testing.assert_allclose(*map(ops.convert_to_numpy, (actual, expected)), rtol=1e-4, atol=2e-6)

    def test_are_what_is_validated_and_kept_and_not_what_is_trained(self):
        """At an epoch's end callbacks see the averages; the trained weights are those of a run without any."""
        seen = []

        class Keep(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                seen.append((weights_of(self.model), logs["val_loss"]))

        images, labels = batch(0, 4)
        models = {}
        for ema in (None, 0.5):
            model = trained(Adam(0.05, ema=ema), [])
            beside = [Keep(), AveragedWeights()] if ema else []
            model.fit(
                images, labels, batch_size=2, epochs=3, shuffle=False, verbose=0, callbacks=beside,
                validation_data=batch(9),
            )  # fmt: skip
            models[ema] = model
        assert_same_weights(models[0.5], models[None])
        averages = unwrapped(models[0.5].optimizer).averages
        for variable, average in zip(models[0.5].trainable_variables, averages, strict=True):
            np.testing.assert_array_equal(seen[-1][0][variable.path], ops.convert_to_numpy(average))
            variable.assign(ops.convert_to_numpy(average).copy())
        assert models[0.5].evaluate(*batch(9), return_dict=True, verbose=0)["loss"] == pytest.approx(seen[-1][1])

    def test_are_in_the_model_only_while_it_is_evaluated(self):
        """Outside `fit`, too, where an evaluation within an epoch has begun another, and after one that failed."""
        model, averaged = trained(Adam(0.05, ema=0.5), [batch(0), batch(1)]), AveragedWeights()
        own, seen = model.get_weights(), []

        class Look(keras.callbacks.Callback):
            def on_test_begin(self, logs=None):
                seen.append(self.model.get_weights())

        class Fail(keras.callbacks.Callback):
            def on_test_batch_end(self, batch, logs=None):
                raise KeyboardInterrupt

        model.evaluate(*batch(9), verbose=0, callbacks=[averaged, Look()])
        averages = [ops.convert_to_numpy(average) for average in unwrapped(model.optimizer).averages]
        keras.tree.map_structure(np.testing.assert_array_equal, seen[-1], averages)
        keras.tree.map_structure(np.testing.assert_array_equal, model.get_weights(), own)
        with pytest.raises(KeyboardInterrupt):
            model.evaluate(*batch(9), verbose=0, callbacks=[averaged, Look(), Fail()])
        averaged.on_test_begin()
        keras.tree.map_structure(np.testing.assert_array_equal, model.get_weights(), averages)
        for _ in range(2):
            averaged.restore()
            keras.tree.map_structure(np.testing.assert_array_equal, model.get_weights(), own)

    def test_are_taken_out_of_a_model_whose_validation_failed(self):
        model, averaged, trained_to = trained(Adam(0.05, ema=0.5), []), AveragedWeights(), []

        class Fail(keras.callbacks.Callback):
            def on_test_begin(self, logs=None):
                trained_to.append(self.model.get_weights())

            def on_test_batch_end(self, batch, logs=None):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            model.fit(*batch(0), verbose=0, validation_data=batch(9), callbacks=[Fail(), averaged])
        averaged.restore()
        keras.tree.map_structure(np.testing.assert_array_equal, model.get_weights(), trained_to[-1])

    def test_without_a_decay_for_them_training_does_not_begin(self):
        model = trained(Adam(0.05), [])
        with pytest.raises(ValueError, match="AveragedWeights finds no averages; .*ema=0.999"):
            model.fit(*batch(0), verbose=0, callbacks=[AveragedWeights()])

    def test_keras_own_is_refused(self):
        with pytest.raises(ValueError, match="use_ema: not supported by mtl_keras.optimizers; give ema"):
            SGD(0.1, use_ema=True)


def spoiled(seed: int, depth: float):
    images, labels = batch(seed)
    labels["depth"][0, 3, 4] = depth
    return images, labels


class TestSkipping:
    @pytest.mark.parametrize("depth", [1e26, 3e38])
    @pytest.mark.parametrize("name", OPTIMIZERS)
    def test_a_bad_step_changes_nothing(self, name, depth):
        """Weights, moments, averages, batch statistics and metrics are those of a run without the bad batch."""
        runs = {}
        for bad in (False, True):
            keras.utils.set_random_seed(0)
            model = harness.tiny_model()
            model.compile(OPTIMIZERS[name](0.01, weight_decay=0.01, ema=0.9, skip_non_finite=True, name="optimizer"))
            model.optimizer.build(model.trainable_variables)
            batches = [batch(0), *([spoiled(1, depth)] if bad else []), batch(2), batch(3)]
            model.fit(Batches(batches), shuffle=False, verbose=0)
            runs[bad] = training_state(model)
        # The step itself is counted.
        counted = ("optimizer/iteration", "skipped")
        for path in (path for path in runs[False] if not path.endswith(counted)):
            np.testing.assert_array_equal(runs[True][path], runs[False][path], err_msg=path)
        assert runs[True]["optimizer/optimizer/skipped"] == 1
        assert runs[True]["optimizer/optimizer/last_skipped"] == 1
        assert runs[True]["optimizer/optimizer/iteration"] == 4

    def test_accumulated_steps_wait_for_another(self):
        optimizer = SGD(1.0, momentum=0.0, gradient_accumulation_steps=2, skip_non_finite=True)
        weight = keras.Variable(np.zeros(()), dtype="float32")
        values = []
        for gradient in (1.0, np.nan, 3.0, np.inf, 5.0, 7.0):
            optimizer.apply([ops.convert_to_tensor(gradient, "float32")], [weight])
            values.append(value_of(weight))
        assert values == [0, 0, -2, -2, -2, -8]
        assert int(optimizer.skipped) == 2 and int(optimizer.last_skipped) == 3

    def test_without_it_a_bad_step_spoils_the_weights(self):
        model = trained(Adam(0.01), [batch(0), spoiled(1, 3e38), batch(2)])
        assert not all(np.isfinite(value).all() for value in training_state(model).values())


class Batches(keras.utils.PyDataset):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="TensorFlow's data end such a batch before its step"
)
@pytest.mark.parametrize("validation", [None, batch(9)], ids=["alone", "validated"])
def test_a_step_that_fails_leaves_what_the_epoch_before_came_to(validation):
    """And what a callback made of it since."""
    model, (images, labels) = trained(SGD(0.01), []), batch(0)
    too_short = {**labels, "semseg": labels["semseg"][:, :5]}
    left = []

    class Move(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            left.append([value + 1 for value in self.model.get_weights()])
            self.model.set_weights(left[-1])

    class Data(Batches):
        def __getitem__(self, index):
            return images, too_short if left else labels

    with pytest.raises(ValueError, match="labels: 'semseg' is"):
        model.fit(Data([0]), epochs=2, shuffle=False, verbose=0, callbacks=[Move()], validation_data=validation)
    keras.tree.map_structure(np.testing.assert_array_equal, model.get_weights(), left[-1])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_all_of_it_is_part_of_the_config(name):
    options = {"gradient_accumulation_steps": 4, "global_clipnorm": 2.0, "ema": 0.99, "skip_non_finite": True}
    optimizer = OPTIMIZERS[name](0.1, **options)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert copy.get_config() == optimizer.get_config()
    assert {key: copy.get_config()[key] for key in options} == options


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="the others are started from here")
@pytest.mark.parametrize("backend", ["torch", "tensorflow"])
def test_the_other_backends_do_the_same(backend):
    chosen = "larger_batch or changes_nothing or move_once or wait_for_another"
    command = [sys.executable, "-m", "pytest", "-q", "-x", __file__, "-k", chosen]
    done = subprocess.run(command, env={**os.environ, "KERAS_BACKEND": backend}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
