"""How the plain PyTorch networks are run beside the Keras models. They run in float64, and are the truth."""

import numpy as np
import torch

from benchmarks.peers import torch_model

# Its threads and those of JAX keep each other waiting: with two of them a step takes four times as long.
torch.set_num_threads(1)


def torch_outputs(network, image: np.ndarray) -> dict[str, np.ndarray]:
    dtype = next(network.parameters()).dtype
    with torch.no_grad():
        tensors = network.eval()(torch.from_numpy(image).permute(0, 3, 1, 2).to(dtype))
    return {name: tensor.permute(0, 2, 3, 1).numpy() for name, tensor in tensors.items()}


def torch_step(network, optimizer, image: np.ndarray, labels: dict[str, np.ndarray]) -> float:
    dtype = next(network.parameters()).dtype
    truth = {
        "semseg": torch.from_numpy(labels["semseg"]).long(),
        "depth": torch.from_numpy(labels["depth"]).permute(0, 3, 1, 2).to(dtype),
    }
    predictions = network.train()(torch.from_numpy(image).permute(0, 3, 1, 2).to(dtype))
    loss, *_ = torch_model.joint_loss(predictions, truth)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def worst(actual: dict, expected: dict) -> float:
    """The greatest error of any tensor, each measured against its own length."""
    errors = []
    for name, value in expected.items():
        value = np.asarray(value, "float64")
        errors.append(np.linalg.norm(np.asarray(actual[name], "float64") - value) / np.linalg.norm(value))
    return max(errors)


def count_normalized_values(network) -> dict[str, int]:
    """Filled by the next forward pass: how many values of a channel each batch normalisation saw."""
    counts = {}
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(
                lambda _, inputs, __, name=name: counts.update({name: inputs[0].numel() // inputs[0].shape[1]})
            )
    return counts


def unbiased(after: dict, before: dict, counts: dict[str, int]) -> dict:
    """Running variances as PyTorch keeps them, of those that Keras keeps: its batch variance is n/(n - 1) less."""
    variances = {}
    for name, count in counts.items():
        key = f"{name}.running_var"
        variances[key] = 0.9 * before[key] + (after[key] - 0.9 * before[key]) * count / (count - 1)
    return variances
