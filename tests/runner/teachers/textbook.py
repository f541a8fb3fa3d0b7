"""Logits of teachers by themselves, and gradients by plain autodiff of the whole."""

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import optax

from runner.teachers import OnlineTeacher
from tests.runner.teachers import examples


def teacher_logits(run, batch, ready):
    """Of the whole batch, by the model alone, on the host."""
    setting = examples.setting(ready.dataset.vocabulary)
    module = OnlineTeacher(checkpoint=run).load(setting)
    frozen = jax.device_get(module.read())

    @jax.jit
    def logits(frozen, rows):
        model = module.make(frozen["params"], frozen["variables"])
        return model.head(model.trunk(rows).hidden)

    return np.asarray(logits(frozen, jax.device_get(batch)), np.float64)


def logits_alone(teacher, corpus):
    """Logits of a teacher without a student or a step, float64, and rows of data."""
    dataset = fdl.build(corpus).load()
    loaded = teacher.load(examples.setting(dataset.vocabulary))
    rows = dataset.rows(np.arange(8))

    @jax.jit
    def logits(frozen, rows):
        trunk = loaded.trunk(frozen, {}, rows, capture=frozenset(), logits=True)
        return trunk.outputs(trunk.head_params, trunk.tokens, rows).logits

    return np.asarray(logits(jax.device_get(loaded.read()), rows), np.float64)


def expected(ready, batch, logits, *, temperature=1.0):
    """Value and gradient of `0.5 CE + KL(p || q)` by plain autodiff of the whole."""
    state = jax.device_get(ready.initial_state())
    rows = jax.device_get(batch)
    log_p = jax.nn.log_softmax(jnp.asarray(logits, jnp.float32) / temperature)
    mask = rows["mask"].astype(np.float32)

    def objective(params):
        student = ready.modules.student(params["student"], state.variables["student"])
        own = student.head(student.trunk(rows).hidden)
        ce = optax.softmax_cross_entropy_with_integer_labels(own, rows["targets"])
        log_q = jax.nn.log_softmax(own / temperature)
        kl = optax.losses.kl_divergence_with_log_targets(log_q, log_p)
        return jnp.sum((0.5 * ce + kl) * mask) / jnp.sum(mask)

    total, params = jax.jit(jax.value_and_grad(objective))(state.params)
    return params, total


def softmax(logits):
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def assert_same(actual, desired, rtol=2e-5, atol=2e-6):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol),
        actual,
        desired,
    )
