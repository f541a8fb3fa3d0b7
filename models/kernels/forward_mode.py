"""The switch for forward-mode derivatives: kernels leave out their reverse rules.

JAX refuses `jax.jvp` of a function that has a `jax.custom_vjp`. Under
`with forward_mode(True):` our kernels are their plain forward functions, of which
forward mode takes the derivative, at the memory of a forward pass.
"""

import jax

forward_mode = jax.make_user_context(False)
