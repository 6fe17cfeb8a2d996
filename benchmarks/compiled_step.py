"""What the training step that JAX compiles for an H100 reads and writes; no GPU is needed.

    python -m benchmarks.compiled_step --arch distillation --batch_size 64 --size 256,256 --precision mixed_bfloat16

It wants JAX' CUDA packages, `pip install '.[cuda-jax]'`. XLA compiles for a described device as for one that is there,
but picks the algorithms of convolutions and matrix products without trying them. Of every kernel of the program are
counted the bytes that it is given and those that it leaves; nothing is run, so this tells no times.
"""

import dataclasses
import math
import os
import re
from typing import Any

import keras
import numpy as np
from absl import flags

from benchmarks import contest, subject
from mtl_keras.errors import UserError
from trainers import cli

FLAGS = flags.FLAGS
contest.define_flags(rounds=1, steps=1)
flags.DEFINE_string("name", "compiled_step", "name of the result")

# NVIDIA's "H100 Tensor Core GPU Architecture" and CUDA's occupancy tables for compute capability 9.0.
H100 = """
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 minor: 12 }
runtime_version { major: 12 minor: 9 }
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  l2_cache_size: 52428800
  memory_bandwidth: 3352320000000
  device_memory_size: 84929347584
}
"""
BYTES = {"pred": 1, "u8": 1, "s8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2}
BYTES |= {"f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8, "u64": 8}
# What moves no bytes by itself.
FREE = {"parameter", "constant", "bitcast", "tuple", "get-tuple-element"}

_COMPUTATION = re.compile(r"^(?:ENTRY )?%(\S+) \(.*\{$")
_INSTRUCTION = re.compile(r"^ +(?:ROOT )?%(\S+) = (\(.*?\)|\S+) ([\w-]+)\((.*?)\)(?:,|$)(.*)")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of an HLO program: `shape` is a text such as "(bf16[64,256]{1,0}, u8[0]{0})"."""

    name: str
    shape: str
    operation: str
    operands: tuple[str, ...]
    rest: str

    def mentions(self, key: str) -> str:
        """What stands behind `key=`, without its quotes and %."""
        found = re.search(rf'\b{key}="?%?([^",\s]+)', self.rest)
        return found.group(1) if found else ""


def parse(program: str) -> tuple[dict[str, dict[str, Instruction]], str]:
    """The computations of an HLO program, as XLA prints it, and the name of the one that it begins with."""
    computations: dict[str, dict[str, Instruction]] = {}
    current, entry = "", ""
    for line in program.splitlines():
        if begins := _COMPUTATION.match(line):
            current = begins.group(1)
            entry = current if line.startswith("ENTRY") else entry
            computations[current] = {}
        elif (found := _INSTRUCTION.match(line)) and current:
            name, shape, operation, operands, rest = found.groups()
            names = tuple(re.findall(r"%([\w.-]+)", operands)) if operation != "parameter" else (operands,)
            computations[current][name] = Instruction(name, shape, operation, names, rest)
    return computations, entry


def size(shape: str) -> int:
    """Bytes of a shape's arrays."""
    arrays = re.findall(r"(\w+)\[([\d,]*)\]", shape)
    return sum(BYTES[dtype] * math.prod(int(side) for side in sides.split(",") if side) for dtype, sides in arrays)


def kernels(program: str) -> list[tuple[str, int]]:
    """The kernels of a program: of each its kind, "convolution", "product" or "other", and the bytes it moves."""
    computations, entry = parse(program)
    instructions = computations[entry]
    found = []
    for each in instructions.values():
        if each.operation in FREE:
            continue
        target = each.mentions("custom_call_target")
        written = size(each.shape)
        if target.startswith("__cu"):
            # A library's call gives its workspace as its last result.
            written = size(re.sub(r", u8\[\d+\]\S*\)$", ")", each.shape))
        shares = _read_of_parameters(computations.get(each.mentions("calls"), {}))
        whole = [size(instructions[name].shape) for name in each.operands if name in instructions]
        read = sum(min(total, shares.get(index, total)) for index, total in enumerate(whole))
        kind = "convolution" if "conv" in target else "product" if "gemm" in f"{target} {each.name}" else "other"
        found.append((kind, written + read))
    return found


def widest_window(program: str) -> int:
    """The longest side, in pixels, of the windows of a program's convolutions.

    A gradient that XLA has no form of cuDNN's for becomes a convolution with a window as large as the image, and slow.
    """
    return max(max(map(int, sides.split("x"))) for sides in re.findall(r"window={size=([\dx]+).*__cudnn", program))


def _read_of_parameters(computation: dict[str, Instruction]) -> dict[int, int]:
    """Of the parameters of a fusion that it takes only slices of, by their position, the slices' bytes."""
    shares = {}
    for parameter in computation.values():
        if parameter.operation == "parameter":
            users = [each for each in computation.values() if parameter.name in each.operands]
            if users and all(user.operation == "slice" for user in users):
                shares[int(parameter.operands[0])] = sum(size(user.shape) for user in users)
    return shares


def compile_step(settings: dict[str, Any]):
    """The compiled training step of a contest's subject, for one H100."""
    # It would ask a driver.
    os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
    import jax
    from jax.experimental import topologies

    try:
        topology = topologies.get_topology_desc(platform="cuda", target_config=H100, topology="1x1x1")
    except (NotImplementedError, RuntimeError) as error:
        raise UserError(f"JAX cannot compile for CUDA here ({error}); pip install '.[cuda-jax]'") from error
    everywhere = jax.sharding.NamedSharding(
        topologies.make_mesh(topology, (1,), ("device",)), jax.sharding.PartitionSpec()
    )
    model = subject.Keras(settings).model
    # A step makes the optimizer's variables and the metrics'; a small one will do.
    model.train_on_batch(*subject.batch({**settings, "batch_size": 2, "height": 32, "width": 32}))
    variables = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    state = tuple([variable.value for variable in group] for group in variables)
    shapes = jax.tree.map(
        lambda value: jax.ShapeDtypeStruct(np.shape(value), value.dtype), (state, subject.batch(settings))
    )
    step = jax.jit(model.train_step, donate_argnums=0, in_shardings=everywhere, out_shardings=everywhere)
    return step.trace(*shapes).lower(lowering_platforms=("cuda",)).compile()


def main(arguments: list[str]) -> None:
    del arguments
    if keras.backend.backend() != "jax":
        raise UserError("compiled_step: it is JAX that compiles; set KERAS_BACKEND=jax")
    settings = contest.common_settings()
    compiled = compile_step({**settings, "kind": "keras"})
    program = compiled.as_text()
    found, widest = kernels(program), widest_window(program)
    rows = [
        {
            "name": kind,
            "kernels": sum(each == kind for each, _ in found),
            "bytes": sum(moved for each, moved in found if each == kind),
        }
        for kind in ("convolution", "product", "other")
    ]
    memory = compiled.memory_analysis()
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    for row in rows:
        print(f"{row['name']:<12} {row['kernels']:5d} kernels {row['bytes'] / 1e9:8.2f} GB")
    print(f"widest window of a convolution: {widest} pixels")
    print(
        f"memory: {kept / 2**20:.0f} MiB of variables and batch, {memory.temp_size_in_bytes / 2**20:.0f} MiB of others"
    )
    result = {
        "settings": settings,
        "rows": rows,
        "widest_window": widest,
        "kept": kept,
        "temporary": memory.temp_size_in_bytes,
    }
    contest.keep(FLAGS.name, result)


if __name__ == "__main__":
    cli.launch(main)
