#!/usr/bin/env bash
# jax 0.10.2 (Python 3.11, CPU): the compiler option
# xla_cpu_enable_concurrency_optimized_scheduler is accepted by jax.jit and by compile(),
# its value is checked, and the program is scheduled as without it. In XLA_FLAGS it works.
#
# Guess:  an option that is known, and whose value is parsed (a wrong one is refused), is
#         that of this program, as xla_backend_optimization_level is.
# Seen:   temporaries of the gradient of eight scans: 11.3 MiB without the option and with
#         it, true or false; 8.0 MiB with the same flag in the environment.
#
#         option none 11.25
#         option False 11.25
#         option True 11.25
#         XLA_FLAGS false 8.00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2

cat > "$folder/scans.py" <<'PYTHON'
import sys

import jax
import jax.numpy as jnp

OPTION = "xla_cpu_enable_concurrency_optimized_scheduler"


def total(x, weights):
    for w in weights:
        _, x = jax.lax.scan(lambda c, row, w=w: (c, jnp.sin(row @ w)), 0, x)
    return jnp.sum(x)


def mebibytes(options):
    gradient = jax.jit(jax.grad(total, argnums=(0, 1)), compiler_options=options)
    arrays = jnp.ones((8, 128, 128)), [jnp.ones((128, 128))] * 8
    compiled = gradient.lower(*arrays).compile()
    return compiled.memory_analysis().temp_size_in_bytes / 2**20


if sys.argv[1] == "flags":
    print(f"XLA_FLAGS false {mebibytes({}):.2f}")
else:
    print(f"option none {mebibytes({}):.2f}")
    for value in (False, True):
        print(f"option {value} {mebibytes({OPTION: value}):.2f}")
PYTHON
unset XLA_FLAGS
export JAX_PLATFORMS=cpu
"$folder/venv/bin/python" "$folder/scans.py" options | tee "$folder/log"
XLA_FLAGS=--xla_cpu_enable_concurrency_optimized_scheduler=false \
  "$folder/venv/bin/python" "$folder/scans.py" flags | tee -a "$folder/log"
test "$(awk '/^option/ { print $3 }' "$folder/log" | sort -u | wc -l)" = 1
awk '/^option none/ { base = $3 } /^XLA_FLAGS/ { flag = $3 }
  END { exit !(flag < 0.8 * base) }' "$folder/log"
