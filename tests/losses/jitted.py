"""Losses of arrays by one program each: eagerly, each operation is one of its own."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

import losses
from losses.core.term_values import evaluate, per_token


def values(loss, outputs, mask=None):
    """The loss's values, `[*b]`; those of a term with this mask, if there is one."""
    if mask is None:
        return jax.device_get(_compiled(_values, loss)(_arrays(outputs)))
    outputs = dataclasses.replace(outputs, mask=mask)
    return jax.device_get(_compiled(_masked_values, loss)(_arrays(outputs)))


def mean(loss, outputs):
    """What is logged of the loss as a term."""
    return jax.device_get(_compiled(_mean, loss)(_arrays(outputs)))


def mean_and_grad(loss, outputs, path):
    """What is logged of the loss as a term, and its gradient in an intermediate."""
    arrays = _arrays(outputs)
    intermediates = dict(arrays.pop("intermediates"))
    at = np.asarray(intermediates.pop(path), np.float32)
    return jax.device_get(_compiled_grad(loss, path)(at, intermediates, arrays))


def gradient_of_token(loss, outputs, path, *, mask, token):
    """The gradient of one token's value in an intermediate, where `mask` counts."""
    arrays = _arrays(dataclasses.replace(outputs, mask=mask))

    @jax.jit
    @jax.grad
    def gradient(x):
        inputs = losses.FullOutputs(**arrays | {"intermediates": {path: x}})
        return _masked_values(loss, inputs)[token]

    return jax.device_get(gradient(outputs.intermediates[path]))


def _arrays(outputs):
    """The fields of `FullOutputs`, which is no pytree by itself."""
    return {
        field.name: getattr(outputs, field.name)
        for field in dataclasses.fields(outputs)
        if not field.name.startswith("_")
    }


def _values(loss, outputs):
    return loss(outputs)


def _masked_values(loss, outputs):
    term = losses.LossTerm(name="term", loss=loss)
    masks = {"term": jnp.asarray(outputs.mask)}
    return per_token([term], outputs, masks=masks, statistics={})["term"].values


def _mean(loss, outputs):
    average = evaluate([losses.LossTerm(name="term", loss=loss)], outputs)["term"]
    return average.total / average.count


@functools.cache
def _compiled(function, loss):
    return jax.jit(lambda arrays: function(loss, losses.FullOutputs(**arrays)))


@functools.cache
def _compiled_grad(loss, path):
    def value(x, intermediates, arrays):
        ours = {**intermediates, path: x}
        return _mean(loss, losses.FullOutputs(intermediates=ours, **arrays))

    return jax.jit(jax.value_and_grad(value))
