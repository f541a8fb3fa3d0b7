"""The machine every test sees: 8 virtual CPU devices, and JAX at its strictest."""

import os

import gin
import hypothesis
import jax
import pytest

# Children inherit the platform and nothing else of this: a test that starts `runner`
# sees what a user sees.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

hypothesis.settings.register_profile(
    "reproducible", derandomize=True, deadline=None, database=None
)
hypothesis.settings.load_profile("reproducible")


@pytest.fixture(autouse=True)
def fresh_bindings():
    """Gin binds for a whole process; what one test bound must not reach the next."""
    yield
    gin.clear_config()
