"""The machine every test sees: 8 virtual CPU devices, and JAX at its strictest."""

import os

# XLA's cheapest code: tests compile far more than they run. Read once, when the
# backend starts, below; then taken back, so that children compile as a user's do.
_FLAGS = os.environ.get("XLA_FLAGS")
os.environ["XLA_FLAGS"] = (
    f"{_FLAGS or ''} --xla_backend_optimization_level=0"
    " --xla_llvm_disable_expensive_passes=true"
)

import gin  # noqa: E402 - after the flags
import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

from tests import costs  # noqa: E402

# Children inherit the platform and nothing else of this: a test that starts `runner`
# sees what a user sees.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
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


def pytest_configure(config):
    config.pluginmanager.register(costs.Costs(config))


@pytest.fixture(autouse=True)
def fresh_bindings():
    """Gin binds for a whole process; what one test bound must not reach the next."""
    yield
    gin.clear_config()
