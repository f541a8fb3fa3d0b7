"""The machine every test sees: 8 virtual CPU devices, and JAX at its strictest."""

import os

# Read once, when JAX starts its backend: nothing above this may import jax.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
).strip()

import hypothesis  # noqa: E402 - after the environment, like every import below
import jax  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

hypothesis.settings.register_profile(
    "reproducible", derandomize=True, deadline=None, database=None
)
hypothesis.settings.load_profile("reproducible")
