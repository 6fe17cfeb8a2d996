"""Training steps of ours and of plain PyTorch, both in float64: a program that prints how far apart they end.

It runs under TensorFlow: under JAX and torch, Keras itself takes float64 to float32 in its batch normalisation.
"""

import json

import keras
import torch

import zoo
from benchmarks.peers import torch_model, transfer
from mtl_keras import DepthLoss, MultiTaskModel, SegmentationLoss, optimizers
from tests import harness
from tests.torch_peer import count_normalized_values, torch_step, unbiased, worst

BATCH, SIZE = 4, (32, 64)
TOPOLOGIES = {
    # The ASPP's outermost taps are within a map of 8×12.
    "joint, stride 8": ((64, 96), "joint", {"encoder": "resnet18", "dilation": (False, True, True)}),
    "branched": (SIZE, "branched", {"encoder": "resnet18"}),
    "distillation": (SIZE, "distillation", {"encoder": "resnet18"}),
    "resnet50": (SIZE, "joint", {"encoder": "resnet50", "aspp": False, "skip": False}),
}
# Powers of two, which Keras' float32 learning rate holds exactly, and which change on the way.
OPTIMIZERS = {
    "SGD": ({"momentum": 0.9, "weight_decay": 1e-4}, [2.0**-8, 2.0**-9, 2.0**-6, 2.0**-7, 2.0**-8]),
    "Adam": ({"weight_decay": 1e-4}, [2.0**-12, 2.0**-13, 2.0**-10, 2.0**-11, 2.0**-12]),
}
# Plain descent at a rate that leaves nothing of the old weights' digits, so that w' = -rate·gradient.
HUGE_RATE = 2.0**60


def pair(arch: str, encoder: str, **options) -> tuple[MultiTaskModel, torch.nn.Module]:
    """Our model and its peer, with the same weights."""
    config = json.dumps(keras.saving.serialize_keras_object(zoo.build(arch, encoder=encoder, **options)))
    # By contract the input and the heads are float32 under every precision policy.
    model = keras.saving.deserialize_keras_object(json.loads(config.replace('"float32"', '"float64"')))
    harness.randomize(model)
    network = torch_model.TOPOLOGIES[arch](encoder, **options).double()
    transfer.load_keras_weights(network, model)
    # `double()` comes too late for what was rounded to float32 when it was made.
    for name, values in (("mean", torch_model.IMAGENET_MEAN), ("std", torch_model.IMAGENET_STD)):
        setattr(network, name, 255 * torch.tensor(values, dtype=torch.float64).reshape(3, 1, 1))
    return model, network


def compile_in_float64(model: MultiTaskModel, optimizer: keras.optimizers.Optimizer) -> None:
    losses = {"semseg": SegmentationLoss(dtype="float64"), "depth": DepthLoss(model.spec.depth_std, dtype="float64")}
    # XLA's convolutions are slow in float64 on a CPU, and nothing here depends on them.
    model.compile(optimizer, loss=losses, jit_compile=False)


def train(
    model: MultiTaskModel, network: torch.nn.Module, optimizer: torch.optim.Optimizer, size: tuple[int, int], seed: int
) -> float:
    """One step of both; the difference of their losses, relative."""
    image, labels = harness.images(BATCH, *size, seed), harness.labels(BATCH, *size, seed=seed)
    model.reset_metrics()
    found = model.train_on_batch(image, labels, return_dict=True)["loss"]
    return abs(found / torch_step(network, optimizer, image, labels) - 1)


def one_step(size: tuple[int, int], arch: str, options: dict) -> dict[str, float]:
    """The errors of a step: of its loss, of all gradients and of the running statistics."""
    model, network = pair(arch, **options)
    before, counts = transfer.state_dict(model), count_normalized_values(network)
    compile_in_float64(model, keras.optimizers.SGD(HUGE_RATE))
    loss = train(model, network, torch.optim.SGD(network.parameters(), 0.0), size, seed=0)
    after, expected = transfer.state_dict(model), network.state_dict()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    return {
        "loss": loss,
        "gradients": worst({name: (before[name] - after[name]) / HUGE_RATE for name in gradients}, gradients),
        "running means": worst(after, {name: expected[name] for name in expected if name.endswith("running_mean")}),
        "running variances": worst(
            unbiased(after, before, counts), {name: expected[name] for name in expected if name.endswith("running_var")}
        ),
    }


def several_steps(name: str, options: dict, rates: list[float]) -> dict[str, float]:
    """The errors of the losses and of how far each weight has moved, after a step at each of the rates."""
    model, network = pair("joint", "resnet18")
    start = transfer.state_dict(model)
    compile_in_float64(model, getattr(optimizers, name)(rates[0], **options))
    theirs = getattr(torch.optim, name)(network.parameters(), **options)
    losses = []
    for seed, rate in enumerate(rates):
        model.optimizer.learning_rate = theirs.param_groups[0]["lr"] = rate
        losses.append(train(model, network, theirs, SIZE, seed))
    after = transfer.state_dict(model)
    moves = {key: value.detach() - start[key] for key, value in network.named_parameters()}
    return {"loss": max(losses), "weights": worst({key: after[key] - start[key] for key in moves}, moves)}


def main() -> None:
    errors = {}
    for name, topology in TOPOLOGIES.items():
        errors[name] = one_step(*topology)
        keras.backend.clear_session()
    for name, optimizer in OPTIMIZERS.items():
        errors[name] = several_steps(name, *optimizer)
        keras.backend.clear_session()
    print(json.dumps(errors))


if __name__ == "__main__":
    main()
