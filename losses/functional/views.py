"""Distances of what a model computes on two views of a batch, and of a view alone."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

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


def value_distance(
    predicted: Float[Array, "*b c"],
    values: Float[Array, "*b c"],
    counted: Bool[Array, "*b c"],
    power: int = 1,
) -> PerToken:
    """Return `Σ_c m_c |x̂_c - x_c|^p`.

    Args:
      predicted: x̂.
      values: x; of any kind where not counted.
      counted: m.
      power: p, 1 or 2.
    """
    gap = jnp.where(counted, predicted.astype(jnp.float32) - values, 0.0)
    return jnp.sum(jnp.abs(gap) if power == 1 else jnp.square(gap), axis=-1)


def prior_kl(
    mean: Float[Array, "*b d"], log_variance: Float[Array, "*b d"]
) -> PerToken:
    """Return `KL(N(μ, σ²) ‖ N(0, 1)) = ½ Σ_d (μ² + σ² - log σ² - 1)`, nats.

    From `log σ² = 60` on, σ² goes on as a line, which float32 can hold.

    Source: Kingma and Welling 2013 (arXiv:1312.6114), appendix B.

    Args:
      mean: μ.
      log_variance: log σ².
    """
    mean, log_variance = mean.astype(jnp.float32), log_variance.astype(jnp.float32)
    low = jnp.minimum(log_variance, 60.0)
    line = jnp.exp(jnp.float32(60.0)) * (log_variance - 59.0)
    variance = jnp.where(log_variance > 60.0, line, jnp.expm1(low))
    return 0.5 * jnp.sum(jnp.square(mean) + variance - log_variance, axis=-1)


def step_contrast(
    projected: Float[Array, "b t d"],
    clean: Float[Array, "b t d"],
    mask: Bool[Array, "b t"],
) -> Float[Array, "b t"]:
    """Return `-log softmax_i(cos(projected_i, clean_j))_j` of each j, nats.

    Source: Glocal-IB (arXiv:2510.04910), L_glo in its contrastive form, as its code
    has it: over the moments of a row, those of the view in the sum.

    Args:
      projected: of the view.
      clean: of the batch.
      mask: the moments i that count.
    """
    cosines = jnp.einsum("bid,bjd->bij", unit(projected), unit(clean))
    cosines = jnp.where(mask[..., None], cosines, -jnp.inf)
    pairs = jnp.sum(unit(projected) * unit(clean), axis=-1)
    # A row of which nothing counts has a sum of nothing.
    some = jnp.any(mask, axis=1, keepdims=True)
    cosines = jnp.where(some[..., None], cosines, 0.0)
    return jax.nn.logsumexp(cosines, axis=1) - pairs


def _norm(x: Float[Array, "*b d"]) -> PerToken:
    squared = jnp.sum(jnp.square(x), axis=-1)
    positive = squared > 0.0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)
