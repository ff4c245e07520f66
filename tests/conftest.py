"""Sets up eight CPU devices, a compile cache, and the folders that tests read.

The environment must be set before jax is imported; pytest imports this file first.
"""

import os
import sys
import tempfile
from pathlib import Path

import pytest

DEVICES = "--xla_force_host_platform_device_count=8"
CACHE = Path(tempfile.gettempdir()) / f"clipin_jax_test_cache_{os.getuid()}"

os.environ["JAX_PLATFORMS"] = "cpu"
# The fusion emitters of the CPU compile a program for twice as long as those before.
COMPILE_FAST = (
    "--xla_cpu_use_fusion_emitters=false --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_parallel_codegen_split_count=1"
)
os.environ["XLA_FLAGS"] = " ".join(
    [DEVICES, COMPILE_FAST, os.environ.get("XLA_FLAGS", "")]
).strip()
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "2")
# Most programs run once or twice: compiling them quickly saves more than they lose.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module", autouse=True)
def programs():
    """Frees the compiled programs of a test module.

    Linux limits the memory maps of a process (`vm.max_map_count`), and XLA ends the
    process when the limit is reached.
    """
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the clone."""
    return REPOSITORY


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets; tests that need it are skipped without it."""
    if not (folder := os.environ.get("CLIPIN_JAX_DATA")):
        pytest.skip("no real data: set CLIPIN_JAX_DATA to its folder")
    return Path(folder).resolve(strict=True)


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    """The folder of results of published codes, see tests/parity/README.md."""
    default = REPOSITORY / "tests" / "parity" / "golden"
    return Path(os.environ.get("CLIPIN_JAX_GOLDEN", default)).resolve()
