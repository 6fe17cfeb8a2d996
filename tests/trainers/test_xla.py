"""What a command asks of JAX' compiler."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAY = "import os, trainers; print(os.environ.get('XLA_FLAGS', ''))"
OURS = "--xla_cpu_experimental_ynn_fusion_type="
# The gradient of a convolution's kernel is a product to XLA.
COMPILE = """
import sys
if "commands" in sys.argv:
    import trainers
import jax

def squares(kernel, x):
    y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return (y * y).sum()

kernel, x = jax.numpy.ones((3, 3, 64, 64)), jax.numpy.ones((4, 32, 64, 64))
program = jax.jit(jax.grad(squares)).lower(kernel, x).compile().as_text()
print(program.count("__ynn_fusion"))
"""


def said(code: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax", "XLA_FLAGS": "", **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def test_commands_compile_without_ynnpack_under_the_pinned_jax():
    assert int(said(COMPILE)) > 0, "XLA no longer uses YNNPACK here by itself: trainers/xla.py can go"
    assert said(COMPILE, "commands") == "0"


@pytest.mark.parametrize(
    ("given", "backend", "expected"),
    [
        ("", "jax", OURS),
        ("--xla_cpu_enable_fast_math=false", "jax", f"--xla_cpu_enable_fast_math=false {OURS}"),
        (f"{OURS}dot", "jax", f"{OURS}dot"),
        ("", "tensorflow", ""),
    ],
)
def test_flags_of_the_user_stand(given, backend, expected):
    assert said(SAY, KERAS_BACKEND=backend, XLA_FLAGS=given) == expected


@pytest.mark.parametrize("version", ["0.9.0", "0.12.0", None])
def test_other_versions_of_jax_are_not_given_a_flag_that_they_may_not_know(version, monkeypatch):
    from trainers import xla

    monkeypatch.setattr(xla, "_version", lambda: version)
    monkeypatch.setenv("XLA_FLAGS", "")
    xla.leave_out_ynnpack()
    assert os.environ["XLA_FLAGS"] == ""
