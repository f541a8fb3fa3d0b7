#!/usr/bin/env bash
# clu 0.0.12 with jax 0.10.2 (Python 3.11): metrics.Std cannot be computed; Average can.
#
# Guess:  both are the newest that install together on this Python, and clu asks for no
#         older jax, so every metric of clu.metrics works.
# Seen:   Std.compute() calls jnp.clip(variance, a_min=0.0). jax renamed that argument to
#         `min` and has since dropped the old name: a TypeError, and only when the metric is
#         read, after the epoch it was gathered over.
#
#         Average 2.0
#         Std     TypeError: clip() got an unexpected keyword argument 'a_min'
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2 flax==0.12.8 clu==0.0.12

"$folder/venv/bin/python" - <<'PYTHON'
import jax.numpy as jnp
from clu import metrics

values = jnp.array([1.0, 2.0, 3.0])
print("Average", metrics.Average.from_model_output(values).compute())
gathered = metrics.Std.from_model_output(values)  # gathering works
try:
    print("Std    ", gathered.compute())
except TypeError as error:
    print("Std     TypeError:", error)
else:
    raise SystemExit("Std works now")
PYTHON
