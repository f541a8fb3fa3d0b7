#!/usr/bin/env bash
# jax 0.10.2 (Python 3.11, CPU with AMX): a product of two bfloat16 matrices into
# bfloat16, which is what `a @ b` is, runs no faster than in float32. The same product
# into float32 (`preferred_element_type`), rounded to bfloat16 afterwards, is the same but
# for the order of the sums and takes a third of the time: XLA hands that one to YNNPACK,
# which has kernels for it. Not where the axis that is summed comes first in both, as in
# the gradient of a kernel.
#
# Guess:  the type of the result is a rounding at the end; writing half the bytes can only
#         help.
# Seen:   GFLOP a second, 1,024 tokens, 768 to 1,024 features, one core, medians of 15,
#         on a busy machine.
#
#         float32                      90
#         bfloat16 into bfloat16       83
#         bfloat16 into float32        664
#         the same, rounded            270
#         into float32, tokens summed  104
set -euo pipefail
if ! grep -q -w amx_bf16 /proc/cpuinfo; then
  echo 'This processor has no amx_bf16: nothing to show.'
  exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2

cat > "$folder/products.py" <<'PYTHON'
import os
import statistics
import time

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import jax
import jax.numpy as jnp

x, w = (
    jax.random.normal(jax.random.key(i), shape)
    for i, shape in enumerate(((1024, 768), (768, 1024)))
)
d = jax.random.normal(jax.random.key(2), (1024, 1024))
short = [array.astype(jnp.bfloat16) for array in (x, w, d)]


def wide(a, b):
    return jnp.matmul(a, b, preferred_element_type=jnp.float32)


def rounded(a, b):
    return wide(a, b).astype(jnp.bfloat16)


def summed(a, d):
    return jnp.einsum("nf,ng->fg", a, d, preferred_element_type=jnp.float32)


def gigaflops(product, a, b):
    run = jax.jit(product)
    run(a, b).block_until_ready()
    times = []
    for _ in range(15):
        before = time.process_time()
        for _ in range(5):
            run(a, b).block_until_ready()
        times.append((time.process_time() - before) / 5)
    return 2 * 1024 * 768 * 1024 / 1e9 / statistics.median(times)


plain, fast = (jax.jit(f)(*short[:2]) for f in (jnp.matmul, rounded))
apart = jnp.abs(plain - fast) / jnp.maximum(jnp.abs(plain), 1.0)
assert apart.max() <= 2.0**-7, apart.max()  # one place of bfloat16
for name, product, a, b in (
    ("float32", jnp.matmul, x, w),
    ("bfloat16 into bfloat16", jnp.matmul, *short[:2]),
    ("bfloat16 into float32", wide, *short[:2]),
    ("the same, rounded", rounded, *short[:2]),
    ("into float32, tokens summed", summed, short[0], short[2]),
):
    print(f"{name:<28} {gigaflops(product, a, b):.0f}")
PYTHON
unset XLA_FLAGS
JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/products.py" | tee "$folder/log"
awk '{ speed[NR] = $NF } END { exit !(speed[2] < 2 * speed[1] && speed[3] > 2.5 * speed[2] &&
  speed[4] > 2 * speed[2] && speed[5] < 2 * speed[2]) }' "$folder/log"
