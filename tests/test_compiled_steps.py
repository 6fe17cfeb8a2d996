"""Steps that PyTorch compiles, by `jit_compile=True`, come to what they come to without."""

from tests.test_backends import run_alone

# With `backend="eager"` PyTorch takes the graphs and runs their operations as they are: results are the very same.
RECORDED = """
import functools
import keras, numpy as np, torch
import mtl_keras, zoo
from tests import harness

compiled = []

def record(graph, **options):
    compiled.append(graph)
    return torch_compile(graph, backend=backend, **options)

backend, torch_compile, torch.compile = "eager", torch.compile, record
images, labels = harness.images(4, 32, 32), harness.labels(4, 32, 32)
few_classes = harness.labels(4, 32, 32, num_classes=4)

def both(build, act, **options):
    found = []
    for jit in (False, True):
        keras.utils.set_random_seed(0)
        model = build()
        harness.randomize(model)
        model.compile(mtl_keras.SGD(1e-3, weight_decay=1e-4, **options), jit_compile=jit)
        found.append(act(model))
        # Recorded and compiled where it was asked for, and nowhere else.
        assert bool(compiled) == jit
    return found

def equal(actual, expected):
    keras.tree.map_structure(np.testing.assert_array_equal, actual, expected)

def close(actual, expected):
    keras.tree.map_structure(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), actual, expected)
"""


def test_the_same_to_the_last_bit():
    run_alone(
        "torch",
        RECORDED
        + """
def act(model):
    history = model.fit(images, labels, batch_size=4, epochs=2, validation_data=(images, labels), verbose=0).history
    return history, model.get_weights(), model.predict(images, verbose=0)

for policy in ("float32", "mixed_bfloat16"):
    keras.config.set_dtype_policy(policy)
    equal(*both(lambda: zoo.build("joint", encoder="resnet18"), act))
    # A step of training, one of validation and one of prediction, and none asks the device what a tensor holds.
    assert len(compiled) == 3
    asked = [node for graph in compiled for node in graph.graph.nodes if "_local_scalar_dense" in str(node.target)]
    assert not asked, asked
    compiled.clear()
""",
    )


def test_batches_of_other_sizes_frozen_layers_other_losses_and_skipped_steps():
    run_alone(
        "torch",
        RECORDED
        + """
def act(model):
    fit = functools.partial(model.fit, images, few_classes, verbose=0)
    found = [fit(batch_size=3).history]
    model.get_layer("norm").trainable = False
    model.compile(model.optimizer, jit_compile=model.jit_compile)
    found += [fit(batch_size=4).history, model.get_weights()]
    model.compile(model.optimizer, loss={"depth": lambda y, p: 2 * keras.ops.mean(p)}, jit_compile=model.jit_compile)
    found += [fit(batch_size=4).history, model.get_weights()]
    found += [use(images, few_classes) for use in (model.train_on_batch, model.test_on_batch)]
    found += [model.predict_on_batch(images)]
    before = model.get_weights()
    model.get_layer("predict").bias.assign(np.full(5, np.nan))
    fit(batch_size=4)
    model.get_layer("predict").bias.assign(before[-1])
    equal(model.get_weights(), before)
    assert int(model.optimizer.skipped.value) == 1
    return found

first, second = both(harness.tiny_model, act, skip_non_finite=True)
equal(second, first)
# The loss of the second `compile` is not that of the third.
assert first[1]["depth_loss"] != first[3]["depth_loss"]
""",
    )


def test_compiled_for_real():
    run_alone(
        "torch",
        RECORDED
        + """
backend = "inductor"

def act(model):
    history = model.fit(images, few_classes, batch_size=4, epochs=3, verbose=0).history
    scores = model.evaluate(images, few_classes, verbose=0)
    return history, model.get_weights(), scores, model.predict(images, verbose=0)

close(*both(harness.tiny_model, act))
""",
    )


def test_what_asks_for_a_value_is_told():
    run_alone(
        "torch",
        RECORDED
        + """
model = harness.tiny_model()
model.compile("adam", loss={"depth": lambda y, p: keras.ops.mean(p) * float(keras.ops.max(y))}, jit_compile=True)
try:
    model.fit(images, few_classes, verbose=0)
except ValueError as error:
    assert "jit_compile" in str(error), error
else:
    raise AssertionError("trained")
""",
    )


def test_a_sample_weight_is_refused():
    run_alone(
        "torch",
        RECORDED
        + """
model = harness.tiny_model()
model.compile("adam", jit_compile=True)
for act in (model.fit, model.evaluate):
    try:
        act(images, few_classes, sample_weight=np.ones(4), verbose=0)
    except ValueError as error:
        assert "sample_weight: not supported" in str(error), error
    else:
        raise AssertionError("went on")
""",
    )
