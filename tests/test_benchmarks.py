"""What the benchmarks record of themselves, what becomes of it in RESULTS.md, and what they say to a wrong command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import tiny_run

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"

# In processes of their own, for benchmarks define flags of the same names.
KEEP = """
from benchmarks import contest
contest.define_flags(rounds=1, steps=1)
contest.FLAGS(sys.argv)
contest.keep("kept", {})
"""
SHARES = """
from unittest import mock
from benchmarks import contest, metrics_cost
turns = {"train": {"a": [2.0, 3.0, 6.0], "a, no metrics": [2.0, 4.0, 4.0]}, "evaluate": {"a": [1.5, 0.5, 9.0]}}
turns["measure"] = {"a": [0.01, 0.03, 0.06]}
contest.FLAGS(sys.argv)
with mock.patch.multiple(contest, workers=mock.MagicMock(), take_turns=lambda _, do, **__: turns[do]):
    metrics_cost.main([])
"""
# Batches of 8 that take 6 ms each to make, one after the other, on a clock that only sleeping moves.
WAITS = """
from unittest import mock
from benchmarks import loader
loader.FLAGS(sys.argv)
now = 0.0

def sleep(seconds):
    global now
    now += seconds

class Slow:
    batch_size, wait_seconds = 8, 0.0

    def __init__(self):
        self.ready = now

    def __len__(self):
        return 4

    def __getitem__(self, step):
        self.ready += 0.006
        wait = max(self.ready - now, 0.0)
        sleep(wait)
        self.wait_seconds += wait

with mock.patch.multiple(loader.time, sleep=sleep, perf_counter=lambda: now):
    print([round(loader.share_of_waiting(Slow(), pace), 3) for pace in (1000, 2000)])
"""
FAILED_EXPORT = """
from pathlib import Path
from benchmarks import contest, infer
contest.FLAGS(sys.argv)
infer.EXPORT = "raise ValueError('no such layer')"
assert infer.exports(Path()) == []
"""
NOBODY = """
from benchmarks import contest
contest.FLAGS(sys.argv)
with contest.workers([contest.Contestant(name, {"kind": name}) for name in ("nobody", "nothing")]) as started:
    assert started == {}
"""


def script(code: str, *arguments: object) -> str:
    """Runs code of a benchmark with flags, and returns what it printed."""
    command = [sys.executable, "-c", f"import sys\nsys.argv[0] = 'benchmarks/it.py'\n{code}", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.mark.parametrize(
    "command, said",
    [
        ("train_step --size 256", "size: '256' is no size"),
        ("infer --formats foo", "one or more of saved_model,onnx,litert,openvino"),
        ("loader --data_dir /nope", "/nope"),
        ("loader --paces 0", "give numbers from 1 on"),
        ("compiled_step --size 8", "size: '8' is no size"),
        ("whole_run -- --arch nope", "arch: 'nope' is unknown"),
        ("scaling --step_seconds 0.1 --devices 12", "12 devices do not fill machines of 8"),
        ("scaling --step_seconds 0.1 --inside 0", "give more than 0"),
        ("scaling --step_seconds 0.1 stray", "'stray' is no flag"),
    ],
)
def test_a_wrong_command_gets_one_line_and_status_2(command, said):
    name, *arguments = command.split()
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax"},  # TensorFlow says more
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and said in done.stderr


def test_the_command_that_is_kept_is_the_same_wherever_the_result_goes(tmp_path):
    script(KEEP, "--out", tmp_path, "--size", "64,128", "--backends=jax")
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert kept["command"] == "python -m benchmarks.it --size=64,128 --backends=jax"


def test_the_cost_of_the_metrics_has_the_range_of_its_turns(tmp_path):
    script(SHARES, f"--out={tmp_path}")
    cost = json.loads((tmp_path / "metrics_cost.json").read_text())["costs"]["a"]
    assert cost == {"alone": 0.01, "share_of_step": 0.0, "lowest": -0.25, "highest": 0.5, "validation_over_step": 0.5}


def test_an_accelerator_waits_for_what_the_loader_is_late():
    """1,000 crops a second are a batch in 8 ms, which is ready by then; 2,000 one in 4 ms, which waits 2 of 6."""
    assert script(WAITS) == "[0.0, 0.333]\n"


def test_an_export_that_fails_is_told_with_its_reason():
    said = script(FAILED_EXPORT, "--formats=saved_model")
    assert said == "left out: ours, saved_model: the export ended with status 1 (ValueError: no such layer)\n"


def test_contestants_that_cannot_start_are_told_with_their_reasons():
    assert script(NOBODY).splitlines() == [
        f"left out: {name}: ended with status 1 (KeyError: '{name}'); leave it out" for name in ("nobody", "nothing")
    ]


def test_a_whole_run_is_measured_by_its_own_files(tmp_path):
    tiny_run.write_dataset(tmp_path / "source")
    given = [*tiny_run.flags(tmp_path), "--epochs=2"]
    said = subprocess.run(
        [sys.executable, "-m", "benchmarks.whole_run", f"--out={tmp_path}", "--", *given],
        cwd=ROOT,
        env=tiny_run.environment(),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    result = json.loads((tmp_path / "whole_run.json").read_text())
    assert result["command"].endswith("--epochs=2") and " -- --dataset=miniscapes " in result["command"]
    assert result["crops"] == tiny_run.TRAIN_IMAGES and len(result["wait_percent"]) == len(result["seconds"]) == 2
    # 320,000 crops are 21,333 and a third of the second epoch's; what the first took longer comes once.
    first, second = result["seconds"]
    assert result["report_seconds"] == pytest.approx(320_000 / 15 * second + max(first - second, 0))
    assert f"takes {result['report_seconds'] / 60:.1f} minutes" in said
    assert f"| 2 | 15 | {first:.1f} | {second:.1f} |" in page_of(tmp_path)


def page_of(results: Path) -> str:
    page = results / "RESULTS.md"
    command = [sys.executable, "-m", "benchmarks.results", f"--results={results}", f"--out={page}"]
    subprocess.run(command, cwd=ROOT, check=True)
    return page.read_text(encoding="utf-8")


def test_on_an_accelerator_the_table_of_steps_tells_the_peak_of_its_memory(tmp_path):
    result = json.loads((RESULTS / "train_step.json").read_text(encoding="utf-8"))
    for number, row in enumerate(result["rows"]):
        row["device_mib"] = 5000.4 + number
    (tmp_path / "train_step_gpu.json").write_text(json.dumps(result))
    head, _, first, *_ = (line for line in page_of(tmp_path).splitlines() if line.startswith("|"))
    assert head.endswith("| peak MiB |") and first.endswith("| 5000 |")


def test_the_table_of_memory_tells_what_the_steps_take_or_what_the_device_had(tmp_path):
    row = {"name": "ours", "built_mib": 400.2, "resident_mib": 1000.4, "device_mib": None}
    settings = json.loads((RESULTS / "memory.json").read_text(encoding="utf-8"))
    for name, device in (("memory", None), ("memory_gpu", 5000.4)):
        (tmp_path / f"{name}.json").write_text(json.dumps({**settings, "rows": [{**row, "device_mib": device}]}))
    tables = [line for line in page_of(tmp_path).splitlines() if line.startswith("| ours")]
    assert tables == ["| ours | 1000 | 400 | 600 |", "| ours | 5000 |"]


COUNT = """
import json, sys
from benchmarks import compiled_step
program = sys.stdin.read()
print(json.dumps([compiled_step.widest_window(program), *compiled_step.kernels(program)]))
"""
PROGRAM = """
%fused_slice (param_0: bf16[2,8]) -> f32[1,8] {
  %param_0 = bf16[2,8]{1,0} parameter(0)
  %slice.1 = bf16[1,8]{1,0} slice(%param_0), slice={[0:1], [0:8]}
  ROOT %convert.1 = f32[1,8]{1,0} convert(%slice.1)
}

%fused_add (param_0.1: bf16[2,8], param_1: bf16[2,8]) -> (bf16[2,8], f32[8]) {
  %param_0.1 = bf16[2,8]{1,0} parameter(0)
  %param_1 = bf16[2,8]{1,0} parameter(1)
  %slice.2 = bf16[1,8]{1,0} slice(%param_1), slice={[0:1], [0:8]}
  ROOT %add = (bf16[2,8]{1,0}, f32[8]{0}) custom(%param_0.1, %param_1, %slice.2)
}

ENTRY %main (Arg_0: bf16[2,8]) -> f32[1,8] {
  %Arg_0 = bf16[2,8]{1,0} parameter(0)
  %loop_slice_fusion = f32[1,8]{1,0} fusion(%Arg_0), kind=kLoop, calls=%fused_slice, metadata={op_name="slice"}
  %loop_add_fusion = (bf16[2,8]{1,0}, f32[8]{0}) fusion(%Arg_0, %Arg_0), kind=kLoop, calls=%fused_add
  %get-tuple-element = bf16[2,8]{1,0} get-tuple-element(%loop_add_fusion), index=0
  %copy.1 = bf16[2,8]{1,0} bitcast(%get-tuple-element)
  %gemm_fusion_dot = f32[2,2]{1,0} fusion(%get-tuple-element, %Arg_0), kind=kCustom, calls=%gemm_fusion_dot_computation
  %cudnn-conv.1 = (bf16[2,8]{1,0}, u8[9]{0}) custom-call(%Arg_0, %copy.1), window={size=3x16}, \
    custom_call_target="__cudnn$convForward"
  ROOT %copy = f32[1,8]{1,0} copy(%loop_slice_fusion)
}
"""


def test_windows_and_bytes_of_a_compiled_program_are_counted_once_and_slices_as_such():
    """By hand: a (2, 8) of bfloat16 has 32 bytes, its first row 16, and a row of float32 32."""
    done = subprocess.run(
        [sys.executable, "-c", COUNT], cwd=ROOT, input=PROGRAM, check=True, capture_output=True, text=True
    )
    assert json.loads(done.stdout) == [
        16,
        ["other", 32 + 16],
        ["other", (32 + 32) + (32 + 32)],
        ["product", 16 + (32 + 32)],
        ["convolution", 32 + (32 + 32)],
        ["other", 32 + 32],
    ]


def test_the_page_is_made_of_the_results_that_are_there(tmp_path):
    page = tmp_path / "RESULTS.md"
    subprocess.run([sys.executable, "-m", "benchmarks.results", f"--out={page}"], cwd=ROOT, check=True)
    text = page.read_text(encoding="utf-8")
    for path in RESULTS.glob("*.json"):
        for row in json.loads(path.read_text(encoding="utf-8")).get("rows", []):
            assert path.stem == "metrics_cost" or f"| {row['name']} | " in text
