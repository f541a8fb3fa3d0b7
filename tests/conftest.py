"""The machine every test sees: 8 virtual CPU devices, and JAX at its strictest."""

import ctypes
import functools
import gc
import os
import shutil
import tempfile
from pathlib import Path

# Tests make little garbage, and each collection walks all of JAX for it; in imports,
# where nothing is garbage, a fifth of the time went there.
gc.set_threshold(100_000, 50, 100)

# XLA's cheapest code: tests compile far more than they run. Read once, when the
# backend starts, below; then taken back, so that children compile as a user's do.
_FLAGS = os.environ.get("XLA_FLAGS")
os.environ["XLA_FLAGS"] = (
    f"{_FLAGS or ''} --xla_backend_optimization_level=0"
    " --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_parallel_codegen_split_count=1"
)

import gin  # noqa: E402 - after the flags
import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402
from jax._src import lib  # noqa: E402
from jax._src.interpreters import mlir  # noqa: E402

from runner.files import trusted  # noqa: E402
from tests import costs, schedule  # noqa: E402

# To register every dialect of MLIR takes a quarter of the time of a small program, of
# which tests compile thousands: those of a module share a context. JAX says nothing of
# this function; where it is gone, each program has a context of its own.
if hasattr(mlir, "make_ir_context"):
    mlir.make_ir_context = functools.cache(mlir.make_ir_context)

# No test outlives a loss of power, and the disk would be waited for thousands of times.
os.fsync = lambda descriptor: None

# The key that runs are signed with is this session's, not the user's.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="state-")

# Children inherit the platform and nothing else of this: a test that starts `runner`
# sees what a user sees.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# Where each operation was traced, which XLA carries along, and nothing here reads.
jax.config.update("jax_traceback_in_locations_limit", 0)
# To take it costs a tenth of tracing, below all the frames of pytest.
_library = getattr(lib, "_jax", None)
if hasattr(_library, "set_tracebacks_enabled"):
    _library.set_tracebacks_enabled(False)
jax.devices()
if _FLAGS is None:
    del os.environ["XLA_FLAGS"]
else:
    os.environ["XLA_FLAGS"] = _FLAGS

hypothesis.settings.register_profile(
    "reproducible", derandomize=True, deadline=None, database=None
)
hypothesis.settings.load_profile("reproducible")


def pytest_addoption(parser):
    parser.addoption(
        "--dearest",
        type=int,
        default=0,
        metavar="N",
        help="print the N tests that took the most processor time, and the total",
    )


# Programs that were compiled once are read from here again: many tests run one step on
# one mesh. Each process has a directory of its own, which ends with it: two that write
# one file would read each other's halves.
_COMPILED = tempfile.mkdtemp(prefix="compiled-")
_SECONDS_WORTH_A_FILE = 0.1
# Of a worker: two, and a child of one, stay within 8 GB. To drop a gigabyte of programs
# takes seconds, and what is compiled again takes more.
_MOST_MEMORY = 3.5 * 2**30


def pytest_configure(config):
    config.pluginmanager.register(costs.Costs(config))
    config.pluginmanager.register(schedule)
    jax.config.update("jax_compilation_cache_dir", _COMPILED)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _COMPILED  # of children
    _keep_programs_worth_a_file()


def _keep_programs_worth_a_file():
    name = "jax_persistent_cache_min_compile_time_secs"
    if getattr(jax.config, name) != _SECONDS_WORTH_A_FILE:
        jax.config.update(name, _SECONDS_WORTH_A_FILE)


def pytest_collection_finish():
    """Leave what was imported and collected out of all garbage collections."""
    gc.freeze()


def pytest_unconfigure():
    shutil.rmtree(_COMPILED, ignore_errors=True)


@pytest.fixture(autouse=True, scope="module")
def few_programs_in_memory():
    """Compiled programs add up to gigabytes, and the next module has others."""
    yield
    if hasattr(mlir, "make_ir_context"):
        mlir.make_ir_context.cache_clear()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    if pages * os.sysconf("SC_PAGE_SIZE") > _MOST_MEMORY:
        jax.clear_caches()
        # glibc gives nothing back by itself, and each later module would clear again.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


@pytest.fixture(autouse=True)
def fresh_bindings():
    """What holds for a whole process is not handed on: a run in it changes these."""
    yield
    gin.clear_config()
    trusted.admit_none()
    _keep_programs_worth_a_file()
