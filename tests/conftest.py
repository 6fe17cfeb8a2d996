"""What every test shares: the backend, the seed and the precision policy."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")
# Tests compile many networks and run each a few times, so compiling fast wins over running fast.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

# The same step is compiled by many processes: only the first has to.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(tempfile.gettempdir(), "mtl_keras_tests_xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

import keras
import pytest

pytest.register_assert_rewrite("tests.harness")

# In a process that a test starts XLA optimises, as for a user: it takes many steps, or is what is measured.
AS_A_USER = {"XLA_FLAGS": ""}


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="module")
def module_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that the tests of a module share, gone after them: networks and their states are large."""
    folder = tmp_path_factory.mktemp("module")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def precision():
    """Sets the global precision policy for one test: `precision("mixed_bfloat16")`."""
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)
