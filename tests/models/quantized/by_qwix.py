"""Writes `qwix.npz`: kernels, and the same quantized and read again by qwix.

pip install qwix==0.1.8 && PYTHONPATH=. python tests/models/quantized/by_qwix.py
"""

# qwix stands in no lock: models of ours run without it.
# pyright: reportMissingImports=false

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import qwix

FILE = Path(__file__).with_name("qwix.npz")
KINDS = {"int8": jnp.int8, "int4": jnp.int4, "fp8": jnp.float8_e4m3fn}


def main() -> None:
    kernel = np.random.default_rng(0).normal(size=(64, 2, 3)).astype(np.float32)
    arrays = {"kernel": kernel}
    for kind, dtype in KINDS.items():
        for block in (64, 32):
            quantized = qwix.quantize(
                jnp.asarray(kernel),
                dtype,
                channelwise_axes=(1, 2),
                tiled_axes={0: block},
            )
            name = f"{kind}/{block}"
            arrays[f"{name}/numbers"] = np.float32(quantized.qvalue)
            arrays[f"{name}/scales"] = np.float32(quantized.scale)
    np.savez_compressed(FILE, **arrays)


if __name__ == "__main__":
    main()
