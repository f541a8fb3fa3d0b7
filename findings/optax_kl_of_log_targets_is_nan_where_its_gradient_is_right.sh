#!/usr/bin/env bash
# optax 0.2.8 (jax 0.10.2, Python 3.11): kl_divergence_with_log_targets of a target that has
# an impossible token is NaN; its gradient is finite and right.
#
# Guess:  it is kl_divergence for those who hold logarithms, so both agree: a token of
#         probability 0 adds nothing, as kl_divergence has it. If -inf makes one NaN, then
#         the gradient is NaN as well, and a run ends at once.
# Seen:   exp(-inf) times -inf is 0 times -inf, NaN, in the value alone. In the gradient
#         stands only exp(-inf). So a student learns rightly from a teacher whose logits
#         are masked, or cut to its best, and every loss of its log is NaN: a rule that stops
#         at NaN stops a sound run, and a mean over tokens is lost.
#
#         targets 3/4, 1/4, 0           kl_divergence   with_log_targets
#         value                                0.5363                nan
#         gradient in log q    -0.75 -0.25 -0   -0.75 -0.25 -0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np
from optax import losses

targets = jnp.array([0.75, 0.25, 0.0])
log_targets = jax.nn.log_softmax(jnp.array([jnp.log(3.0), 0.0, -jnp.inf]))
log_q = jnp.log(jnp.full(3, 1 / 3))
both = losses.kl_divergence, losses.kl_divergence_with_log_targets
values = [float(f(log_q, p)) for f, p in zip(both, (targets, log_targets))]
slopes = [jax.grad(f)(log_q, p) for f, p in zip(both, (targets, log_targets))]
print("values   ", values)
print("gradients", *slopes)
expected = 0.75 * np.log(0.75 * 3) + 0.25 * np.log(0.25 * 3)
assert abs(values[0] - expected) < 1e-6
assert np.isnan(values[1])
for slope in slopes:
    np.testing.assert_allclose(slope, -targets, atol=1e-6)
PYTHON
