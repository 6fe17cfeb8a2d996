"""Writes RESULTS.md of the results that the benchmarks have left: `python -m benchmarks.results`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks.contest import RESULTS
from mtl_keras.errors import UserError
from mtl_keras.files import write_text
from trainers import cli

FLAGS = flags.FLAGS
flags.DEFINE_string("results", str(RESULTS), "folder of the results")
flags.DEFINE_string("out", str(RESULTS.parent / "RESULTS.md"), "the page to write")

Result = dict[str, Any]

INTRODUCTION = """# Results

Made by `python -m benchmarks.results` of what the benchmarks left in `benchmarks/results/`; nothing here is typed.
In the tables of times all took turns within one run; memory and growth were measured one after the other. *Ratio* is
the time of the fastest PyTorch over this one's: above 1, this one is faster. Ours and its exports
run with the allocator's settings that the commands have, "freed memory kept"; PyTorch does where its row says so.
"""
TITLES = {
    "train_step": "Training step",
    "whole_run": "The report's run",
    "compiled_step": "The step that JAX compiles for an H100",
    "infer": "Prediction",
    "startup": "From the command to the end of the first step",
    "metrics_cost": "Cost of the metrics",
    "memory": "Peak memory of training",
    "growth": "Growth",
    "loader": "Loader",
}


def main(arguments: list[str]) -> None:
    del arguments
    found = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(Path(FLAGS.results).glob("*.json"))}
    if not found:
        raise UserError(f"results: {FLAGS.results} holds no result; run a benchmark first")
    parts = [INTRODUCTION]
    for kind, title in TITLES.items():
        for name, result in found.items():
            # `train_step_gpu.json` is another training step.
            if name == kind or name.startswith(f"{kind}_"):
                parts.append(section(title, kind, name, result))
    write_text(Path(FLAGS.out), "\n".join(parts))
    print(FLAGS.out)


def section(title: str, kind: str, name: str, result: Result) -> str:
    """A result's heading, its table, and where and how it was measured."""
    body = BODIES.get(kind, times)(name, result)
    missing = "".join(f"\nLeft out: {why}\n" for why in result.get("left_out", ()))
    return f"## {title}: {setting(result)}\n\n{body}{missing}\n{source(result)}"


def setting(result: Result) -> str:
    """What was measured, in words."""
    facts = result["settings"]
    if "arch" not in facts:
        return facts["what"]
    compiled = ", torch's steps compiled too" if "ours, torch, compiled" in result.get("facts", ()) else ""
    return (
        f"{facts['arch']}, {facts['encoder']}, batch {facts['batch_size']}, {facts['height']}×{facts['width']}, "
        f"{facts['precision']}{compiled}"
    )


def source(result: Result) -> str:
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    devices = sorted({fact["device"].split(" on ", 1)[-1] for fact in result.get("facts", {}).values()})
    accelerators = [device for device in devices if not device.startswith("cpu")]
    where = f"{', '.join(accelerators)}; " if accelerators else ""
    return (
        f"`{result['command']}` · {where}{machine['processor']}, {machine['cores']} cores, load {machine['load']} at "
        f"the end · Python {machine['python']}, {versions} · {machine['date']}\n"
    )


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, all columns but the first to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def times(name: str, result: Result) -> str:
    """Milliseconds, and what a training step makes of the machine's peak."""
    del name
    flops = "matmul" in result
    on_device = any(row.get("device_mib") for row in result["rows"])
    head = ["", "ms", "lowest", "highest", "ratio", *(["GFLOP", "GFLOP/s", "of the peak"] if flops else [])]
    head += ["peak MiB"] if on_device else []
    rows = []
    for row in result["rows"]:
        cells = [row["name"], *(milliseconds(row[key]) for key in ("median", "lowest", "highest"))]
        cells.append("" if row["ratio"] is None else f"{row['ratio']:.2f}")
        if flops:
            rate = row["flop"] / row["median"]
            cells += [f"{row['flop'] / 1e9:.0f}", f"{rate / 1e9:.0f}", f"{100 * row['share_of_peak']:.0f} %"]
        cells += [f"{row['device_mib']:.0f}"] if on_device else []
        rows.append(cells)
    said = ""
    if flops:
        said = (
            "\nThe operations of a step are three times those of the forward pass; ours comes to the same result with "
            "fewer\n(`mtl_keras/upsampling.py`). The peak, "
            f"{max(result['matmul'].values()) / 1e9:.0f} GFLOP/s, is that of a large matrix product.\n"
        )
    return table(head, rows) + said


def milliseconds(seconds: float) -> str:
    """At least three digits, so that a ratio can be checked."""
    return f"{1000 * seconds:.{0 if seconds >= 0.1 else 1 if seconds >= 0.01 else 2}f}"


def whole_run(name: str, result: Result) -> str:
    del name
    seconds = result["seconds"]
    cells = [str(len(seconds)), str(result["crops"]), f"{seconds[0]:.1f}", f"{seconds[-1]:.1f}"]
    cells += [
        f"{result['crops_a_second']:.0f}",
        f"{result['wait_percent'][-1]} %",
        f"{result['report_seconds'] / 60:.1f}",
    ]
    head = ["epochs", "crops an epoch", "first, s", "last, s", "crops/s", "waiting for data", "report's run, min"]
    said = (
        "\nAn epoch with its validation, pictures and saves. The report's run is 320,000 crops at the last epoch's\n"
        "pace, and once what the first took longer; it took 14 h 34 m on the report's GPU.\n"
    )
    return table(head, [cells]) + said


def compiled_step(name: str, result: Result) -> str:
    del name
    rows = [[row["name"], str(row["kernels"]), f"{row['bytes'] / 1e9:.2f}"] for row in result["rows"]]
    rows.append(["all", *(f"{sum(float(row[index]) for row in rows):g}" for index in (1, 2))])
    mib = [result[key] / 2**20 for key in ("kept", "temporary")]
    said = (
        "\nThe bytes that kernels are given and leave, counted in the program; it was compiled without a GPU, and not\n"
        f"run. Memory by XLA's plan: {mib[0]:.0f} MiB of variables and batch, {mib[1]:.0f} MiB of what a step needs "
        f"beside them. No window of a convolution is wider than {result['widest_window']} pixels.\n"
    )
    return table(["kernels", "count", "GB moved"], rows) + said


def startup(name: str, result: Result) -> str:
    del name
    rows = [[row["name"], *(f"{row[key]:.1f}" for key in ("median", "lowest", "highest"))] for row in result["rows"]]
    return table(["", "s", "lowest", "highest"], rows)


def metrics_cost(name: str, result: Result) -> str:
    del name
    head = ["", "metrics alone, of a step", "a step with them over one without", "lowest", "highest"]
    head += ["validation step over training step"]
    rows = []
    for who, cost in result["costs"].items():
        keys = ("alone", "share_of_step", "lowest", "highest")
        shares = [f"{100 * cost[key]:.1f} %" for key in keys]
        rows.append([who, *shares, f"{cost['validation_over_step']:.2f}"])
    said = (
        "\nAlone, the metrics are a program of their own, of made-up predictions. The second figure is a turn with\n"
        "them over its neighbour without, less 1; where the lowest is below 0 and the highest above, it cannot be\n"
        "told from noise.\n"
    )
    return table(head, rows) + said


def memory(name: str, result: Result) -> str:
    del name
    if any(row["device_mib"] for row in result["rows"]):
        return table(["", "MiB of the device"], [[row["name"], f"{row['device_mib']:.0f}"] for row in result["rows"]])
    rows = []
    for row in result["rows"]:
        built, peak = row["built_mib"], row["resident_mib"]
        rows.append([row["name"], *(f"{mib:.0f}" for mib in (peak, built, peak - built))])
    said = "\nBuilt: with libraries and network, before the first step; the steps' part includes compiling them.\n"
    return table(["", "peak, MiB", "built", "the steps'"], rows) + said


def growth(name: str, result: Result) -> str:
    points = result["points"]
    rows = [[p["varied"], str(p["value"]), p["name"], f"{p['seconds']:.2f}", f"{p['mib']:.0f}"] for p in points]
    picture = f"![Time and memory of a step](results/{name}.png)\n\n"
    return picture + table(["varied", "value", "who", "s a step", "MiB"], rows) + repeated(result)


def repeated(result: Result) -> str:
    """How far those points lie apart that measure the same."""
    settings = result["settings"]
    usual = {"images a batch": settings["batch_size"], "classes": 19, "encoder": settings["encoder"]}
    found: dict[str, list[float]] = {}
    for point in result["points"]:
        if usual.get(point["varied"]) == point["value"]:
            found.setdefault(point["name"], []).append(point["seconds"])
    spreads = " and ".join(f"{min(seconds):.2f} to {max(seconds):.2f} s ({who})" for who, seconds in found.items())
    return f"\nOne setting is among them {len(usual)} times, with {spreads}.\n"


def loader(name: str, result: Result) -> str:
    del name
    keys = ("median", "lowest", "highest")
    rows = [[r["name"], *(f"{r[key]:.0f}" for key in keys), f"{r['ratio']:.1f}"] for r in result["rows"]]
    said = (
        "\nThe DataLoader decodes JPEG and PNG files each time. Ours reads the same encoded images from ArrayRecord\n"
        "shards: without a cache it decodes them each time, into a cold one once, and out of a warm one it cuts\n"
        "decoded samples, as from a run's second epoch on. All files had been read before: the system's own cache was\n"
        "warm.\n\n"
    )
    waits = [[r["name"], str(r["pace"]), f"{r['share']:.2%}"] for r in result["waiting"]]
    paced = (
        f"\nSteps of {result['paced_batch']} crops last as long as on an accelerator of that pace, and the process "
        "sleeps meanwhile.\nThe report's 320,000 crops in 5 minutes are 1,067 a second.\n"
    )
    rates = table(["", "samples/s", "lowest", "highest", "ratio"], rows) + said
    return rates + table(["", "crops/s of an accelerator", "waiting for data"], waits) + paced


BODIES: dict[str, Callable[[str, Result], str]] = {
    "whole_run": whole_run,
    "compiled_step": compiled_step,
    "startup": startup,
    "metrics_cost": metrics_cost,
    "memory": memory,
    "growth": growth,
    "loader": loader,
}


if __name__ == "__main__":
    cli.launch(main)
