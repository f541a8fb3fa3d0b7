"""Spans of a row that the student's and the teacher's tokens both end with.

`runner.Aligned` numbers them; a value of a span stands at its first token, which is the
one that a term counts.
"""

import jax.numpy as jnp
from jaxtyping import Array, Int, Shaped

from losses.core.loss import Loss
from losses.core.masks import target_mask
from losses.core.outputs import Outputs, PerToken
from losses.functional import spans as over_spans

SPANS = "teacher/spans"
"""Column with the number of each target's span in its row, from 1; 0 of none."""


class SpanLoss(Loss, abstract=True):
    """One value a span, at its first token; its scope is the row."""

    scope = "sequence"
    reads = staticmethod(target_mask)
    tiled = False


def span_log_probabilities(outputs: Outputs) -> PerToken:
    """Return `Σ log q_y` over each token's span, nats, `[*b]`; 0 of none."""
    return _sums(_target_log_probabilities(outputs), outputs)


def log_probabilities_before_last(outputs: Outputs) -> PerToken:
    """Return `Σ log q_y` over each token's span but its last token, nats, `[*b]`."""
    values = _target_log_probabilities(outputs)
    before = over_spans.before_last(_spans(outputs)).reshape(values.shape)
    return _sums(jnp.where(before, values, 0.0), outputs)


def from_last(values: PerToken, outputs: Outputs) -> PerToken:
    """Return at each token the value at the last token of its span, `[*b]`."""
    last = over_spans.last_of_span(_spans(outputs))
    at_last = jnp.take_along_axis(_of_rows(values), last, axis=1)
    return at_last.reshape(values.shape)


def _sums(values: PerToken, outputs: Outputs) -> PerToken:
    spans = _spans(outputs)
    return over_spans.sum_over_spans(_of_rows(values), spans, spans).reshape(
        values.shape
    )


def _target_log_probabilities(outputs: Outputs) -> PerToken:
    """Return `log q_y`, nats, 0 where there is no target."""
    log_q = outputs.target_logits() - outputs.log_normalizer()
    return jnp.where(target_mask(outputs.batch), log_q, 0.0)


def _spans(outputs: Outputs) -> Int[Array, "b t"]:
    return _of_rows(outputs.batch[SPANS])


def _of_rows(x: Shaped[Array, "b ..."]) -> Shaped[Array, "b t"]:
    return x.reshape((x.shape[0], -1))
