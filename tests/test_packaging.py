"""The pins of pyproject.toml's extras are those of the requirements files, which are tested."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins(lines: list[str]) -> dict[str, str]:
    """Exact versions by package, an extra such as jax[cuda12] counting as its package."""
    found = (line.split("==") for line in lines if "==" in line)
    return {name.partition("[")[0]: version for name, version in found}


def required(name: str) -> dict[str, str]:
    return pins((ROOT / name).read_text().splitlines())


EXTRAS = {name: pins(lines) for name, lines in PROJECT["project"]["optional-dependencies"].items()}


def test_the_commands_extras_are_what_the_tests_install():
    assert {**EXTRAS["export"], **EXTRAS["video"], **EXTRAS["demo"]} == required("requirements-extras.txt")


@pytest.mark.parametrize("name", ["jax", "tensorflow", "torch"])
def test_a_backend_for_gpus_is_of_the_version_that_is_tested(name):
    assert EXTRAS[f"cuda-{name}"] == {name: {**required("requirements.txt"), **required("requirements-test.txt")}[name]}


def test_files_beside_the_code_are_packaged():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]
    for package in ("mtl_keras", "zoo", "trainers"):
        files = [
            path for path in (ROOT / package).rglob("*.*") if path.is_file() and path.suffix not in (".py", ".pyc")
        ]
        packaged = {path for pattern in patterns.get(package, ()) for path in (ROOT / package).glob(pattern)}
        assert set(files) == packaged
