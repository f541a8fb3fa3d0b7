#!/usr/bin/env bash
# optax 0.2.8 (jax 0.10.2, Python 3.11): optax.ema of a bfloat16 tree that never changes is
# first larger than any value it was shown, then a third of it.
#
# Guess:  a debiased average of a constant is that constant: 1.5, give or take bfloat16's
#         three digits. If rounding hurts, the average sticks somewhere below.
# Seen:   the running sum is kept in bfloat16 (accumulator_dtype=None follows the input).
#         0.999 x rounds back to x, so nothing is forgotten and the sum outgrows its bias
#         correction; later 0.001 x is too small to be added, and the correction goes to 1.
#
#         updates   bfloat16   float32
#             100      1.617    1.499
#             300      1.922    1.499
#           10000      0.500    1.499
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2 optax==0.2.8

"$folder/venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
import optax

constant = jnp.full(4, 1.5, jnp.bfloat16)


def after(updates, accumulator_dtype):
    average = optax.ema(0.999, accumulator_dtype=accumulator_dtype)
    update = jax.jit(average.update)
    state = average.init(constant)
    for _ in range(updates):
        value, state = update(constant, state)
    return float(value[0])


print("updates   bfloat16   float32")
rows = {n: (after(n, None), after(n, jnp.float32)) for n in (100, 300, 10_000)}
for updates, (rounded, right) in rows.items():
    print(f"{updates:7d} {rounded:10.3f} {right:8.3f}")

assert all(abs(right - 1.5) < 2e-3 for _, right in rows.values())
assert rows[300][0] > 1.8 and rows[10_000][0] < 0.6
PYTHON
