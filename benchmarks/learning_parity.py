"""Learning beside PyTorch: `python -m benchmarks.learning_parity` (needs torch; minutes on two CPU cores).

A plain PyTorch network of the same topology starts from the same weights, takes the same batches in the same order
under the same Adam and poly schedule, and is held against ours: the losses step by step, and the metrics on the
validation split at the end. One wrong convention (padding, BatchNorm's momentum, Adam's epsilon, coupled weight decay,
the schedule) parts them from the first steps on.

Rounding parts any two trainings in the end, however equal. How fast is measured: a third training is PyTorch's in
float64, which rounds next to nothing, and ours may be up to three times as far from it as PyTorch's own in float32 is.
How much metrics differ by chance alone is measured by repeating all of it with other seeds.
"""

import csv
import dataclasses
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import torch
from absl import flags

import zoo
from benchmarks.peers import torch_model, transfer
from mtl_keras import backend, data
from mtl_keras.data.spec import DataSpec
from mtl_keras.files import replacing
from mtl_keras.metrics import MeanIoU, SILogRMSE, grader
from mtl_keras.model import MultiTaskModel
from mtl_keras.optimizers import Adam, PolyDecay
from trainers import cli

FLAGS = flags.FLAGS

flags.DEFINE_string("arch", "joint", "topology: joint, branched or distillation")
flags.DEFINE_string("encoder", "resnet18", "encoder of both")
flags.DEFINE_integer("steps", 200, "steps of each training", lower_bound=1)
flags.DEFINE_integer("reference_steps", 30, "of these, steps in float64 too, which are slow", lower_bound=1)
flags.DEFINE_integer("batch_size", 8, "images a step", lower_bound=2)
flags.DEFINE_integer("crop", 64, "height and width of the centre crops", lower_bound=16)
flags.DEFINE_integer("seeds", 3, "how often to repeat all with other weights and another order", lower_bound=1)
flags.DEFINE_float("learning_rate", 1e-4, "at the first epoch", lower_bound=0)
flags.DEFINE_float("weight_decay", 1e-4, "coupled", lower_bound=0)
flags.DEFINE_string("dataset", "streets", "what to train on")
flags.DEFINE_string("prepared_dir", None, "folder of prepared datasets; TFDS's own by default")
flags.DEFINE_string("out", "learning_parity", "folder of the table and the figure")

# What the first loss may be from PyTorch's in float64, relatively: that of a forward pass in float32.
FIRST_TOLERANCE = 1e-5
# Over the first steps, and over all, our losses may be so many times as far from those in float64 as PyTorch's in
# float32 are. Adam's first steps follow the signs of gradients however small, so that rounding grows fast in either,
# and by luck: the distances are compared by their geometric means over steps and seeds.
FEW_STEPS = 10
DRIFT = 3.0

Labels = dict[str, np.ndarray]
NAMES = ("ours", "PyTorch", "PyTorch in float64")


@dataclasses.dataclass(frozen=True)
class Split:
    """A split in memory: uint8 images (n, height, width, 3), and the labels of each."""

    images: np.ndarray
    labels: Labels

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, Labels]:
        return self.images[indices], {name: value[indices] for name, value in self.labels.items()}


@dataclasses.dataclass(frozen=True)
class Training:
    """What came of a training: `losses`, (steps,), and the validation metrics."""

    losses: np.ndarray
    metrics: dict[str, float]
    seconds: float


def main(arguments: list[str]) -> int:
    del arguments
    spec, train, val = read_splits()
    rounds = []
    for seed in range(FLAGS.seeds):
        order = list(batches(len(train.images), seed))
        model = make_model(spec, seed)
        networks = [peer(model), peer(model).double()]
        rounds.append([learn_keras(model, train, val, order)])
        for network, steps in zip(networks, (FLAGS.steps, FLAGS.reference_steps), strict=True):
            rounds[-1].append(learn_torch(network, model.spec, train, val, order, min(steps, FLAGS.steps)))
        print(f"seed {seed}: " + ", ".join(f"{n} {t.seconds:.0f} s" for n, t in zip(NAMES, rounds[-1], strict=True)))
    passed = report(rounds)
    out = Path(FLAGS.out)
    write_table(rounds, out / "losses.csv")
    draw(rounds, out / "losses.png")
    print(f"{out}/losses.csv {out}/losses.png")
    return 0 if passed else 1


def read_splits() -> tuple[DataSpec, Split, Split]:
    """The centre crops of the training and the validation split."""
    found = [data.load(FLAGS.dataset, split, prepared_dir=FLAGS.prepared_dir) for split in ("train", "val")]
    return found[0].spec, *(read_split(dataset) for dataset in found)


def read_split(dataset: data.Dataset) -> Split:
    images, semseg, depth = [], [], []
    for index in range(len(dataset)):
        sample = dataset[index]
        top, left = ((side - FLAGS.crop) // 2 for side in sample["semseg"].shape)
        window = np.s_[top : top + FLAGS.crop, left : left + FLAGS.crop]
        images.append(sample["image"][window])
        semseg.append(sample["semseg"][window])
        depth.append(dataset.metres(sample)[window][..., None])
    return Split(np.stack(images), {"semseg": np.stack(semseg), "depth": np.stack(depth)})


def batches(images: int, seed: int) -> Iterator[np.ndarray]:
    """The indices of each step: every epoch in an order of its own, what does not fill a step left out."""
    rng = np.random.default_rng(seed)
    for _ in range(-(-FLAGS.steps // steps_per_epoch(images))):
        yield from rng.permutation(images)[: steps_per_epoch(images) * FLAGS.batch_size].reshape(-1, FLAGS.batch_size)


def steps_per_epoch(images: int) -> int:
    return images // FLAGS.batch_size


def make_model(spec: DataSpec, seed: int) -> MultiTaskModel:
    backend.set_random_seed(seed)
    return zoo.build(FLAGS.arch, encoder=FLAGS.encoder, spec=spec)


def peer(model: MultiTaskModel) -> torch_model.MultiTaskNetwork:
    """The PyTorch network with a model's weights."""
    spec = model.spec
    facts = {"num_classes": spec.num_classes, "depth_mean": spec.depth_mean, "depth_std": spec.depth_std}
    network = torch_model.TOPOLOGIES[FLAGS.arch](FLAGS.encoder, **facts)
    transfer.load_keras_weights(network, model)
    return network


def learn_keras(model: MultiTaskModel, train: Split, val: Split, order: list[np.ndarray]) -> Training:
    """Trains our model."""
    epochs = -(-len(order) // steps_per_epoch(len(train.images)))
    rate = PolyDecay(FLAGS.learning_rate, epochs, steps_per_epoch(len(train.images)))
    model.compile(Adam(rate, weight_decay=FLAGS.weight_decay))
    begin = time.perf_counter()
    losses = []
    for indices in order[: FLAGS.steps]:
        model.reset_metrics()
        losses.append(model.train_on_batch(*train.batch(indices), return_dict=True)["loss"])
    predictions = [model.predict_on_batch(val.images[part]) for part in parts(len(val.images))]
    return training(losses, predictions, val, model.spec, begin)


def learn_torch(
    network: torch_model.MultiTaskNetwork, spec: DataSpec, train: Split, val: Split, order: list[np.ndarray], steps: int
) -> Training:
    """Trains the peer."""
    each = steps_per_epoch(len(train.images))
    dtype = next(network.parameters()).dtype
    epochs = -(-len(order) // each)
    optimizer = torch.optim.Adam(network.parameters(), lr=FLAGS.learning_rate, weight_decay=FLAGS.weight_decay)
    begin = time.perf_counter()
    losses = []
    network.train()
    for step, indices in enumerate(order[:steps]):
        optimizer.param_groups[0]["lr"] = FLAGS.learning_rate * max((1 - step // each / epochs) ** 0.9, 1e-6)
        images, labels = train.batch(indices)
        targets = {
            "semseg": torch.from_numpy(labels["semseg"].astype("int64")),
            "depth": torch.from_numpy(channels_first(labels["depth"])).to(dtype),
        }
        loss, *_ = torch_model.joint_loss(network(as_tensor(images, dtype)), targets, depth_std=spec.depth_std)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    network.eval()
    predictions = []
    with torch.no_grad():
        for part in parts(len(val.images)):
            found = network(as_tensor(val.images[part], dtype))
            predictions.append({name: value.permute(0, 2, 3, 1).float().numpy() for name, value in found.items()})
    return training(losses, predictions, val, spec, begin)


def training(losses: list, predictions: list[dict], val: Split, spec: DataSpec, begin: float) -> Training:
    found = np.array(losses, float)
    # Single losses are their batch's as much as the network's.
    last = {"loss, last ¼": float(found[-max(1, len(found) // 4) :].mean())}
    return Training(found, {**last, **measure(predictions, val, spec)}, time.perf_counter() - begin)


def measure(predictions: list[dict], val: Split, spec: DataSpec) -> dict[str, float]:
    """The report's metrics of predictions over the validation split."""
    miou, silog = MeanIoU(spec.num_classes), SILogRMSE(spec.depth_range)
    for part, prediction in zip(parts(len(val.images)), predictions, strict=True):
        miou.update_state(val.labels["semseg"][part], prediction["semseg"])
        silog.update_state(val.labels["depth"][part], prediction["depth"])
    values = {"mIoU": miou.result(), "SI-logRMSE": silog.result(), "grader": grader(miou.result(), silog.result())}
    return {name: float(keras.ops.convert_to_numpy(value)) for name, value in values.items()}


def parts(images: int) -> list[slice]:
    return [slice(start, start + 10) for start in range(0, images, 10)]


def as_tensor(images: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(channels_first(images)).to(dtype)


def channels_first(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2))


def errors(rounds: list[list[Training]], which: int) -> np.ndarray:
    """How far a training's losses are from those in float64, relatively, (seeds, steps)."""
    steps = len(rounds[0][2].losses)
    return np.array([np.abs(trainings[which].losses[:steps] / trainings[2].losses - 1) for trainings in rounds])


def geometric_mean(values: np.ndarray) -> float:
    return float(np.exp(np.log(np.maximum(values, np.finfo(np.float32).eps)).mean()))


def report(rounds: list[list[Training]]) -> bool:
    """Prints what agrees how well, and returns whether all of it does."""
    ours, theirs = errors(rounds, 0), errors(rounds, 1)
    print("\nlosses of seed 0, and how far those in float32 are from those in float64")
    print(f"{'step':>6}{'ours':>12}{'PyTorch':>12}{'float64':>12}{'ours':>12}{'PyTorch':>12}")
    for step in shown_steps(FLAGS.steps):
        of_step = [training.losses[step] for training in rounds[0] if step < len(training.losses)]
        apart = [found[0, step] for found in (ours, theirs) if step < found.shape[1]]
        print(f"{step + 1:6d}" + "".join(f"{x:12.6f}" for x in of_step) + "".join(f"{x:12.1e}" for x in apart))
    print()
    passed = [told("the first step", float(ours[:, 0].max()), FIRST_TOLERANCE)]
    for steps in (FEW_STEPS, ours.shape[1]):
        tolerance = DRIFT * geometric_mean(theirs[:, :steps])
        passed.append(told(f"the first {steps} steps", geometric_mean(ours[:, :steps]), tolerance))
    print(f"\n{'validation':<14}{'ours':>18}{'PyTorch':>18}{'difference':>14}{'noise of seeds':>16}")
    for name in rounds[0][0].metrics:
        passed.append(compare_metric(name, rounds))
    return all(passed)


def compare_metric(name: str, rounds: list[list[Training]]) -> bool:
    """Prints a metric of both, and returns whether the means differ by no more than seeds do."""
    ours, theirs = (np.array([trainings[which].metrics[name] for trainings in rounds]) for which in (0, 1))
    gap = float(np.mean(ours - theirs))
    line = f"{name:<14}{spread(ours):>18}{spread(theirs):>18}{gap:14.3f}"
    if len(rounds) == 1:
        print(f"{line}{'one seed':>16}")
        return True
    # Two standard errors of the difference of two means, as if the runs were not paired.
    noise = float(np.sqrt((ours.var(ddof=1) + theirs.var(ddof=1)) / len(rounds)))
    agrees = abs(gap) <= 2 * noise
    print(f"{line}{noise:16.3f}   {_agrees(agrees)}")
    return agrees


def spread(values: np.ndarray) -> str:
    return f"{values.mean():.3f}" + (f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else "")


def told(what: str, value: float, tolerance: float) -> bool:
    """Prints a distance of the losses beside its tolerance, and returns whether it is within."""
    print(f"{what}: {value:.1e} from float64, tolerance {tolerance:.1e}: {_agrees(value <= tolerance)}")
    return value <= tolerance


def _agrees(it_does: bool) -> str:
    return "agrees" if it_does else "DIFFERS"


def shown_steps(steps: int) -> list[int]:
    """The first steps, then ever fewer."""
    return sorted({step - 1 for step in (1, 2, 3, 5, 10, 20, 30, 50, 75, 100, 150, steps) if step <= steps})


def write_table(rounds: list[list[Training]], path: Path) -> None:
    """Writes every loss of every seed as CSV."""
    with replacing(path) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["seed", "step", *NAMES])
        for seed, trainings in enumerate(rounds):
            for step, losses in enumerate(itertools.zip_longest(*(training.losses for training in trainings))):
                writer.writerow([seed, step + 1, *("" if loss is None else f"{loss:.8g}" for loss in losses)])


def draw(rounds: list[list[Training]], path: Path) -> None:
    """Draws the losses of the first seed, and how far those of all seeds are from float64: geometric means."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), facecolor="white", layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = np.arange(1, len(rounds[0][0].losses) + 1)
    left.plot(steps, rounds[0][1].losses, color="#d55e00", linewidth=3, alpha=0.5, label="PyTorch")
    left.plot(steps, rounds[0][0].losses, color="#0072b2", linewidth=1.2, label="ours")
    left.set_title("Loss, seed 0", loc="left")
    for label, color, which in (("ours", "#0072b2", 0), ("PyTorch", "#d55e00", 1)):
        apart = [geometric_mean(of_step) for of_step in errors(rounds, which).T]
        right.semilogy(steps[: len(apart)], apart, color=color, linewidth=1.6, label=f"{label}, float32")
    of_seeds = f", mean of {len(rounds)} seeds" if len(rounds) > 1 else ""
    right.set_title(f"Relative difference from PyTorch in float64{of_seeds}", loc="left")
    for axes in (left, right):
        axes.set_xlabel("step")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e5e7eb", linewidth=0.8)
        axes.legend(frameon=False)
    with replacing(path) as beside:
        figure.savefig(beside, dpi=150)


if __name__ == "__main__":
    cli.launch(main)
