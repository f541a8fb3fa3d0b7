"""Distances between what a model computes on two views of a batch."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from losses.functional.vocabulary import target_logits

PerToken = Float[Array, "*b"]
_TINY = 1e-12


def margin_shift(
    logits: Float[Array, "*b v"],
    view_logits: Float[Array, "*b v"],
    targets: Int[Array, "*b"],
) -> PerToken:
    """Return `‖d(x̃) - d(x)‖₂` of the margins `d_v = s_y - s_v`; its slope at 0 is 0.

    Source: Mao et al. 2023 (arXiv:2304.07288), of its smooth adversarial form.

    Args:
      logits: s on the batch.
      view_logits: s on the view.
      targets: ids y; one beyond the vocabulary gives NaN.
    """
    moved = view_logits.astype(jnp.float32) - logits.astype(jnp.float32)
    return _norm(target_logits(moved, targets)[..., None] - moved)


def feature_shift(
    features: Float[Array, "*b d"], view_features: Float[Array, "*b d"]
) -> PerToken:
    """Return `‖f(x̃)/‖f(x̃)‖ - f(x)/‖f(x)‖‖₂`, 0 to 2; its slope at 0 is 0.

    Source: AdvFLYP (arXiv:2604.11576), L_feat.
    """
    return _norm(unit(view_features) - unit(features))


def unit(x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    """Return `x / ‖x‖`, float32; zeros stay zeros."""
    wide = x.astype(jnp.float32)
    return wide / jnp.maximum(_norm(wide), _TINY)[..., None]


def view_alignment(
    projected: Float[Array, "*b d"], clean: Float[Array, "*b d"]
) -> PerToken:
    """Return `1 - cos(projected, clean)`, 0 to 2.

    Source: Glocal-IB (arXiv:2510.04910), L_glo, its cosine form.
    """
    return 1.0 - jnp.sum(unit(projected) * unit(clean), axis=-1)


def _norm(x: Float[Array, "*b d"]) -> PerToken:
    squared = jnp.sum(jnp.square(x), axis=-1)
    positive = squared > 0.0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)
