"""How long the report's run of the distillation network takes, data, validation, pictures and saves included.

    python -m benchmarks.whole_run -- --precision mixed_bfloat16 --batch_size 64

It is `python -m trainers.fit --arch distillation --dataset streets/full`, with what follows `--` added: 16 epochs of
20,000 crops, as the report's. A shorter run (`--dataset streets/medium`, `--epochs`) tells the pace, and the report's
320,000 crops are counted at that of its last epoch. Preparing the scenes comes before, and is not counted.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks import contest
from mtl_keras.callbacks import read_metrics
from trainers import cli
from trainers.run_folder import open_run

FLAGS = flags.FLAGS
flags.DEFINE_string("name", "whole_run", "name of the result")
flags.DEFINE_string("out", str(contest.RESULTS), "folder of the results")

REPORT_CROPS = 16 * 20_000
RUN = ("--arch=distillation", "--dataset=streets/full", "--recipe=report")
# The end of an epoch's line in the log: the share of its steps' time that went into waiting for data.
_WAIT = re.compile(r"^ *\d+/\d+ .* s +(\d+) %$", re.MULTILINE)


def train(arguments: list[str], runs_dir: str) -> tuple[str, Path]:
    """Runs `trainers.fit`, and shows what it says; returns that and the run's folder."""
    command = [sys.executable, "-m", "trainers.fit", *RUN, *arguments, f"--runs_dir={runs_dir}"]
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        raise SystemExit(process.returncode)  # it has said why
    (run,) = Path(runs_dir).glob("*/config.json")
    return "".join(lines), run.parent


def measured(log: str, run: Path) -> dict[str, Any]:
    """What the run's settings, metrics and log tell of its pace."""
    folder, config = open_run(str(run))
    rows = read_metrics(folder.metrics)
    ends = [0.0, *(row["seconds"] for row in rows)]
    seconds = [end - begin for begin, end in zip(ends, ends[1:], strict=False)]
    crops = int(rows[-1]["step"]) // len(rows) * config.batch_size
    # Compiling and the first reading of the data come once.
    report = REPORT_CROPS / crops * seconds[-1] + max(seconds[0] - seconds[-1], 0.0)
    size = "×".join(map(str, config.crop))
    what = f"{config.arch}, {config.encoder}, {config.dataset}, batch {config.batch_size}, {size}, {config.precision}"
    return {
        "settings": {"what": what},
        "facts": {"run": {"device": log.partition(" · ")[0]}},
        "crops": crops,
        "seconds": seconds,
        "crops_a_second": crops / seconds[-1],
        "wait_percent": [int(share) for share in _WAIT.findall(log)],
        "report_seconds": report,
    }


def main(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as runs_dir:
        result = measured(*train(arguments, runs_dir))
    pace, minutes = result["crops_a_second"], result["report_seconds"] / 60
    print(f"\n{pace:.0f} crops a second; at that, the report's run takes {minutes:.1f} minutes")
    contest.keep(FLAGS.name, result, arguments)


if __name__ == "__main__":
    cli.launch(main, takes_arguments=True)
