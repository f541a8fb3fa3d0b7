#!/usr/bin/env bash
# jax 0.10.2 (Python 3.11, CPU): `jnp.sum(a * b, axis=-1)` of two arrays takes ten times
# as long where any axis before the last has one element, as a batch of one row has. The
# same sum by `jnp.einsum`, and `jnp.sum(a * a, axis=-1)`, do not mind.
#
# Guess:  an axis of one element is a bitcast, and costs nothing.
# Seen:   nanoseconds an element, float32, one core, medians of 15. Both programs are one
#         fusion that XLA hands to YNNPACK.
#
#         1024x192      sum(a*b) 0.36  einsum 0.37  sum(a*a) 0.19
#         1x1024x192    sum(a*b) 4.49  einsum 0.45  sum(a*a) 0.20
#         1024x1x192    sum(a*b) 4.70  einsum 0.37  sum(a*a) 0.15
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2

cat > "$folder/sums.py" <<'PYTHON'
import os
import statistics
import time

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import jax
import jax.numpy as jnp

SUMS = {
    "sum(a*b)": lambda a, b: jnp.sum(a * b, axis=-1),
    "einsum": lambda a, b: jnp.einsum("...d,...d->...", a, b),
    "sum(a*a)": lambda a, b: jnp.sum(a * a, axis=-1),
}


def nanoseconds(total, a, b):
    run = jax.jit(total)
    run(a, b).block_until_ready()
    times = []
    for _ in range(15):
        before = time.process_time()
        for _ in range(5):
            run(a, b).block_until_ready()
        times.append((time.process_time() - before) / 5 / a.size)
    return 1e9 * statistics.median(times)


for shape in ((1024, 192), (1, 1024, 192), (1024, 1, 192)):
    a, b = (jax.random.normal(jax.random.key(i), shape) for i in range(2))
    columns = [f"{name} {nanoseconds(f, a, b):.2f}" for name, f in SUMS.items()]
    print(f"{'x'.join(map(str, shape)):<13}", "  ".join(columns))
PYTHON
unset XLA_FLAGS
JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/sums.py" | tee "$folder/log"
awk 'NR == 1 { base = $3 } NR > 1 && $3 < 4 * base { same = 1 } { if ($5 > 4 * base) same = 1 }
  END { exit same }' "$folder/log"
