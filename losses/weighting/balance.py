"""Weights that keep terms in proportion: by their values, gradients or variances."""

import abc
import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from losses.core.batch_weights import Balance, BalanceInputs, Combination
from losses.core.checks import check_finite

Tree = Any

ROUNDING = 1e-6
"""Of a mean in float32: that of a divergence of 0 may be so far below it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ratio(Balance):
    """`scale · E[min(m(to) / max(m(own), eps), cap)]`; m is what a subclass measures.

    E is over steps: a mean with weights `decay^age`, without bias from its start
    (`(1 - decay) Σ_age decay^age r / (1 - decay^steps)`); at decay 0 it is the ratio of
    this batch alone, and nothing is remembered.

    A batch is skipped on which m is not finite, m(own) is 0, or either is negative by
    more than rounding: there the weight is 0, and the mean over steps stays as it was.

    Attributes:
      to: name of the term that is followed.
      scale: a positive factor.
      decay: of the mean over steps, in [0, 1).
      cap: the largest ratio that counts; None for no bound.
      eps: the smallest `m(own)` that is divided by.

    Raises:
      ValueError: decay is outside [0, 1), or another number is not positive and finite.
    """

    to: str
    scale: float = 1.0
    decay: float = 0.0
    cap: float | None = None
    eps: float = 1e-6

    def __post_init__(self):
        check_finite(self)
        if not 0.0 <= self.decay < 1.0:
            raise ValueError(f"decay must be in [0, 1), got {self.decay}")
        for name in ("scale", "cap", "eps"):
            value = getattr(self, name)
            if value is not None and not value > 0.0:
                raise ValueError(f"{name} must be positive, got {value}")

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.to,)

    def initial(self) -> Tree:
        return {"sum": jnp.float32(-1.0)} if self.decay else {}  # below 0: no ratio yet

    @abc.abstractmethod
    def measure(self, of: Combination, inputs: BalanceInputs) -> Float[Array, ""]:
        """Return m of a term or group, float32."""

    def __call__(
        self, own: Combination, inputs: BalanceInputs, params: Tree, memory: Tree
    ) -> tuple[Float[Array, ""], Tree]:
        del params
        skipped = self.skips(own, inputs)
        to, measured = self._measured(own, inputs)
        ratio = jnp.maximum(to, 0.0) / jnp.maximum(measured, self.eps)
        if self.cap is not None:
            ratio = jnp.minimum(ratio, self.cap)
        if not self.decay:
            return self.scale * jnp.where(skipped, 0.0, ratio), {}

        # A skipped batch leaves the mean as it is; the first ratio stands for all that
        # were skipped before it.
        before = 1.0 - self.decay ** inputs.step.astype(jnp.float32)
        after = 1.0 - self.decay ** (inputs.step + 1).astype(jnp.float32)
        old = memory["sum"]
        mean = old / jnp.maximum(before, jnp.finfo(jnp.float32).tiny)
        first = jnp.where(skipped, old, after * ratio)
        ratio = jnp.where(skipped, mean, ratio)
        total = self.decay * old + (1.0 - self.decay) * ratio
        total = jnp.where(old < 0.0, first, total)
        weight = self.scale * total / after
        return jnp.where(skipped, 0.0, weight), {"sum": total}

    def skips(self, own: Combination, inputs: BalanceInputs) -> Bool[Array, ""]:
        to, measured = self._measured(own, inputs)
        return ~(jnp.isfinite(to) & (to >= -ROUNDING) & _is_measure(measured))

    def _measured(
        self, own: Combination, inputs: BalanceInputs
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        to = self.measure({self.to: jnp.float32(1.0)}, inputs)
        return to, self.measure(own, inputs)


class MatchValue(Ratio):
    """`scale · sg(L_to / max(L_own, eps))`: as large as another term, times `scale`.

    With `decay = 0` and no cap, this is the balance of MaxText (pull 4220): of hard
    loss H, soft loss S and feature loss F,

        Group(name="kd", terms=[S, F with MatchValue(to="S")],
              weight=MatchValue(to="H", scale=alpha))

    beside H is `H + alpha · kd · sg(H / kd)` with `kd = S + F · sg(S / F)`. Its limits
    (`tests/losses/weighting/balance_test.py` shows each):

    * the objective's *value* is always `(1 + alpha) H`: it cannot tell how the student
      matches the teacher, and its curve is that of H;
    * the gradient of F is `S/F ∂F`, which grows without bound as F goes to zero;
    * a constant factor on F cancels, so that a weight there only turns F on or off;
    * with ratios of each microbatch, the objective depends on how the batch is cut.
      Here they are of the global batch, whatever the microbatches.

    A `decay` near 1 and a `cap` mend the second: weights that change slowly are nearly
    constants, and F's gradient goes to zero with F. A batch on which a value is
    negative, as that of a confidence penalty always is, is skipped.
    """

    wants = "values"

    def measure(self, of: Combination, inputs: BalanceInputs) -> Float[Array, ""]:
        return inputs.value(of)


class MatchGradient(Ratio):
    """`scale · sg(‖∂L_to‖ / max(‖∂L_own‖, eps))`: gradients of equal norm at the trunk.

    The norm is that of the gradient in the trunk's outputs that the terms read, hidden
    states and intermediates of all tokens: the last layer that they share. For terms
    all of which follow one, these norms are equal in every step; the weights of
    GradNorm (Chen et al. 2018, arXiv:1711.02257, eq. 1-2, with exponent 0) approach
    this by a learning rate of their own. That gradients in the shared representation
    may stand for those in its parameters is from Sener and Koltun 2018
    (arXiv:1810.04650, section 3.3).
    """

    wants = "gradients"

    def measure(self, of: Combination, inputs: BalanceInputs) -> Float[Array, ""]:
        return inputs.gradient_norm(of)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnitGradient(Balance):
    """`scale · sg(1 / max(‖∂L_own‖, eps))`: a gradient of norm `scale` at the trunk.

    Terms that all have it pull alike, whatever their sizes are. The norm is that of
    `MatchGradient`, in the trunk's outputs. A batch on which it is not finite or 0 is
    skipped: there the weight is 0, `skipped/NAME` is 1, and a line says so. A term that
    reads nothing of the trunk is skipped in every batch.

    Source: Minixhofer et al. 2025, ALM (arXiv:2503.20083), GradMag, which has it in the
    parameters of the last layer that the terms share.

    Attributes:
      scale: the norm.
      eps: the smallest norm that is divided by.

    Raises:
      ValueError: a number is not positive and finite.
    """

    scale: float = 1.0
    eps: float = 1e-8
    wants = "gradients"

    def __post_init__(self):
        check_finite(self)
        for name in ("scale", "eps"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    def __call__(
        self, own: Combination, inputs: BalanceInputs, params: Tree, memory: Tree
    ) -> tuple[Float[Array, ""], Tree]:
        del params
        weight = self.scale / jnp.maximum(inputs.gradient_norm(own), self.eps)
        return jnp.where(self.skips(own, inputs), 0.0, weight), memory

    def skips(self, own: Combination, inputs: BalanceInputs) -> Bool[Array, ""]:
        return ~_is_measure(inputs.gradient_norm(own))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reciprocal(Balance):
    """`scale / max(L_of, eps)`, gradients stopped.

    Of a cross-entropy, with `of` a term `CompSum(tau=2.0)` of weight 0, whose value is
    the mean probability of error, and `optax.sgd(gamma)`: normalized gradient descent,
    `γ / mean_i (1 - q_y)` times the gradient. It grows without bound as the data are
    fitted; `eps` caps it. A batch on which the value is not finite, 0 or negative is
    skipped: there the weight is 0.

    Source: Tyurin 2024 (arXiv:2412.08424), of binary linear models from weights of 0;
    more classes and other models are an extension.

    Attributes:
      of: name of the term whose value divides.
      scale: a positive factor.
      eps: the smallest value that is divided by.

    Raises:
      ValueError: a number is not positive and finite.
    """

    of: str
    scale: float = 1.0
    eps: float = 1e-6
    wants = "values"

    def __post_init__(self):
        check_finite(self)
        for name in ("scale", "eps"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.of,)

    def __call__(
        self, own: Combination, inputs: BalanceInputs, params: Tree, memory: Tree
    ) -> tuple[Float[Array, ""], Tree]:
        del params
        skipped = self.skips(own, inputs)
        weight = self.scale / jnp.maximum(self._value(inputs), self.eps)
        return jnp.where(skipped, 0.0, weight), memory

    def skips(self, own: Combination, inputs: BalanceInputs) -> Bool[Array, ""]:
        del own
        return ~_is_measure(self._value(inputs))

    def _value(self, inputs: BalanceInputs) -> Float[Array, ""]:
        return inputs.value({self.of: jnp.float32(1.0)})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Uncertainty(Balance):
    """`scale · exp(-s)`, with `s / 2` added to the objective; s is learned.

    s is the logarithm of the assumed variance of the term's errors; where `scale · L`
    stays the same, it converges to `s = log(2 scale L)`, so that the term contributes
    1/2. It is trained by the experiment's optimiser, and is no part of the student.

    Attributes:
      scale: 1 for a negative log-likelihood, 1/2 for a squared error.
      initial_log_variance: s before the first step.

    Source: Kendall et al. 2018 (arXiv:1705.07115), eq. 7 and 10, in `s = log σ²` as
    recommended in section 3.2. Where L is not positive, s would have no lower bound:
    such a batch gives s no gradient.

    Raises:
      ValueError: scale is not positive, or a number not finite.
    """

    scale: float = 1.0
    initial_log_variance: float = 0.0
    wants = "nothing"

    def __post_init__(self):
        check_finite(self)
        if not self.scale > 0.0:
            raise ValueError(f"scale must be positive, got {self.scale}")

    def params(self) -> Tree:
        return {"log_variance": jnp.float32(self.initial_log_variance)}

    def __call__(
        self, own: Combination, inputs: BalanceInputs, params: Tree, memory: Tree
    ) -> tuple[Float[Array, ""], Tree]:
        del own, inputs
        return self.scale * jnp.exp(-params["log_variance"]), memory

    def skips(self, own: Combination, inputs: BalanceInputs) -> Bool[Array, ""]:
        return ~_is_measure(inputs.value(own))

    def penalty(self, params: Tree) -> Float[Array, ""]:
        return 0.5 * params["log_variance"]


def _is_measure(x: Float[Array, ""]) -> Bool[Array, ""]:
    """Return whether a value is finite and, but for its rounding, positive."""
    return jnp.isfinite(x) & (x >= -ROUNDING) & (x != 0.0)
