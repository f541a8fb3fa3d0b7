#!/usr/bin/env bash
# optax 0.2.8 (jax 0.10.2, Python 3.11): inject_hyperparams rounds every constant to the
# dtype of the parameters, so that Adam's first update of bfloat16 parameters is NaN.
#
# Guess:  hyperparameters are scalars of float32, whatever the parameters are; adamw with
#         and without inject_hyperparams gives the same first update, -0.0003.
# Seen:   b2 0.999 is kept as bfloat16, which is 1.0; the bias correction 1 - b2^t is 0 and
#         the update 0/0. Other constants shift: learning rate 3e-4 to 2.9945e-4, b1 0.9 to
#         0.8984. optax.adamw alone is right. hyperparam_dtype=jnp.float32 is the cure.
#
#         plain     -0.0003 bfloat16
#         injected  nan b2=1.0 b1=0.8984375 learning_rate=0.00029945
#         cured     -0.0003 b2=0.999
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jax==0.10.2 jaxlib==0.10.2 optax==0.2.8

"$folder/venv/bin/python" - <<'PYTHON'
import jax.numpy as jnp
import numpy as np
import optax

params = {"w": jnp.zeros(4, jnp.bfloat16)}
grads = {"w": jnp.ones(4, jnp.bfloat16)}


def first(optimizer):
    updates, state = optimizer.update(grads, optimizer.init(params), params)
    return updates["w"][0], state


plain, _ = first(optax.adamw(3e-4, b2=0.999))
injected, state = first(optax.inject_hyperparams(optax.adamw)(3e-4, b2=0.999))
cured, right = first(
    optax.inject_hyperparams(optax.adamw, hyperparam_dtype=jnp.float32)(3e-4, b2=0.999)
)
constants = {name: float(value) for name, value in state.hyperparams.items()}
print(f"plain     {float(plain):.4f} {plain.dtype}")
print(
    f"injected  {float(injected)} b2={constants['b2']} b1={constants['b1']}",
    f"learning_rate={constants['learning_rate']:.8f}",
)
print(f"cured     {float(cured):.4f} b2={float(right.hyperparams['b2']):.3f}")

assert np.isfinite(float(plain)) and np.isfinite(float(cured))
assert np.isnan(float(injected)) and constants["b2"] == 1.0
PYTHON
