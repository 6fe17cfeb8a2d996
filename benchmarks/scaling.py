"""How throughput grows with devices, worked out and not measured: `python -m benchmarks.scaling --step_seconds=0.05`.

Every device keeps its batch, so the global batch grows. A step takes what it takes on one device, the small all-reduces
of synchronised batch normalisation, which wait for each other, and what the backward pass does not hide of the
gradients' all-reduce. `docs/scaling.md` has the formulas, where its numbers come from, and tables of this script.
"""

import dataclasses
import math

from absl import flags

from mtl_keras.errors import UserError
from trainers import cli

FLAGS = flags.FLAGS

flags.DEFINE_float("step_seconds", None, "a training step on one device", lower_bound=0)
flags.DEFINE_integer("batch", 32, "images a step on each device", lower_bound=1)
flags.DEFINE_integer("parameters", 32_142_356, "trainable parameters; the gradient has 4 bytes for each", lower_bound=1)
flags.DEFINE_integer("small_reduces", 0, "all-reduces a step that batch normalisation waits for", lower_bound=0)
flags.DEFINE_list("devices", ["1", "8", "64", "512"], "numbers of devices, behind commas")
flags.DEFINE_integer("node", 8, "devices of a machine", lower_bound=1)
flags.DEFINE_float("inside", 380.0, "GB/s of a device to the others of its machine", lower_bound=0)
flags.DEFINE_float("between", 50.0, "GB/s of a device to other machines", lower_bound=0)
flags.DEFINE_float("latency_inside", 3.0, "microseconds of a hop inside a machine", lower_bound=0)
flags.DEFINE_float("latency_between", 10.0, "microseconds of a hop between machines", lower_bound=0)
flags.DEFINE_float(
    "hidden",
    0.0,
    "share of a step's time that the gradients' all-reduce may hide behind",
    lower_bound=0,
    upper_bound=1,
)
flags.DEFINE_integer("samples", 20_000, "training images of an epoch", lower_bound=1)
for flag in ("step_seconds", "inside", "between"):
    flags.register_validator(flag, lambda value: value is None or value > 0, "give more than 0")
flags.register_validator(
    "devices",
    lambda counts: counts and all(count.isdecimal() and int(count) > 0 for count in counts),
    "give numbers from 1 on, such as 1,8,64",
)


@dataclasses.dataclass(frozen=True)
class Interconnect:
    """How devices are connected.

    Args:
        node: devices of a machine.
        inside: bytes a second that a device sends to the others of its machine.
        between: bytes a second that it sends to other machines.
        latency_inside: seconds of a hop inside a machine.
        latency_between: seconds of a hop between machines.
    """

    node: int
    inside: float
    between: float
    latency_inside: float
    latency_between: float

    def shape(self, devices: int) -> tuple[int, int]:
        """Devices of each machine, and machines; raises `UserError` for machines that are not full."""
        inside = min(devices, self.node)
        if devices % inside:
            raise UserError(f"{devices} devices do not fill machines of {self.node}; give a multiple")
        return inside, devices // inside

    def ring(self, size: float, devices: int) -> float:
        """Seconds to sum `size` bytes over all devices in rings, where bandwidth counts.

        Scattered and summed within each machine, summed between machines by all devices at once, each with its part,
        then gathered within: 2·(m−1)·(size/(m·B) + α) inside with m devices a machine, and 2·(k−1)·(size/(m·k·B) + α)
        between k machines. With one machine this is the ring all-reduce of Patarasuk and Yuan (2009).
        """
        inside, machines = self.shape(devices)
        within = 2 * (inside - 1) * (size / inside / self.inside + self.latency_inside)
        return within + 2 * (machines - 1) * (size / inside / machines / self.between + self.latency_between)

    def tree(self, devices: int) -> float:
        """Seconds to sum a few numbers over all devices in trees, where latency counts: up and down, log2 hops each."""
        inside, machines = self.shape(devices)
        hops = (math.ceil(math.log2(inside)), math.ceil(math.log2(machines)))
        return 2 * (hops[0] * self.latency_inside + hops[1] * self.latency_between)


@dataclasses.dataclass(frozen=True)
class Scaling:
    """A training step and the devices that it is spread over.

    Args:
        step: seconds of a step on one device.
        gradient: bytes of the gradients.
        small_reduces: all-reduces that a step waits for.
        hidden: share of `step` that the gradients' all-reduce may hide behind.
        interconnect: how devices are connected.
    """

    step: float
    gradient: float
    small_reduces: int
    hidden: float
    interconnect: Interconnect

    def seconds(self, devices: int) -> float:
        """A step on so many devices, each with the batch that one had."""
        exposed = max(0.0, self.interconnect.ring(self.gradient, devices) - self.hidden * self.step)
        return self.step + self.small_reduces * self.interconnect.tree(devices) + exposed

    def efficiency(self, devices: int) -> float:
        """Throughput, as a share of so many times one device's."""
        return self.step / self.seconds(devices)


def table(scaling: Scaling, devices: list[int], batch: int, samples: int) -> str:
    """A Markdown table, a row for each number of devices."""
    titles = (
        "devices",
        "gradients ms",
        "batch norm ms",
        "step ms",
        "images/s",
        "efficiency",
        "batch",
        "steps an epoch",
    )
    lines = ["| " + " | ".join(titles) + " |", "|" + "---:|" * len(titles)]
    for count in devices:
        link, seconds = scaling.interconnect, scaling.seconds(count)
        cells = (
            f"{count}",
            f"{1e3 * link.ring(scaling.gradient, count):.2f}",
            f"{1e3 * scaling.small_reduces * link.tree(count):.2f}",
            f"{1e3 * seconds:.1f}",
            f"{count * batch / seconds:,.0f}",
            f"{100 * scaling.efficiency(count):.0f} %",
            f"{count * batch:,}",
            f"{samples // (count * batch):,}" if samples >= count * batch else "less than 1",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    del arguments
    link = Interconnect(
        FLAGS.node, FLAGS.inside * 1e9, FLAGS.between * 1e9, FLAGS.latency_inside * 1e-6, FLAGS.latency_between * 1e-6
    )
    scaling = Scaling(FLAGS.step_seconds, 4.0 * FLAGS.parameters, FLAGS.small_reduces, FLAGS.hidden, link)
    print(table(scaling, [int(count) for count in FLAGS.devices], FLAGS.batch, FLAGS.samples))


if __name__ == "__main__":
    flags.mark_flag_as_required("step_seconds")
    cli.launch(main)
