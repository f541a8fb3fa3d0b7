"""The device: its name, the peak of its data sheet, and that of a large product.

Prints JSON for `bench.py`, which hands it to the rows.
"""

import json

import jax
import jax.numpy as jnp

from runner.head import flops
from tests.benchmarks import timed_step
from tests.gpu import settings

TIMES = 20


def main() -> None:
    """Multiply two large squares again and again."""
    size = 1024 if settings.current().tiny else 8192
    device = jax.devices()[0]
    a = jax.random.normal(jax.random.key(0), (size, size), jnp.bfloat16)

    @jax.jit
    def products(x: jax.Array) -> jax.Array:
        def product(_: jax.Array, x: jax.Array) -> jax.Array:
            return (x @ a).astype(jnp.bfloat16) * (1 / 128)

        return jax.lax.fori_loop(0, TIMES, product, x)

    def run() -> None:
        jax.block_until_ready(products(a))

    run()
    least = min(timed_step.seconds(run) for _ in range(5))
    found = {
        "kind": device.device_kind,
        "peak": flops.peak(device) or 0.0,
        "measured": 2 * size**3 * TIMES / least,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
