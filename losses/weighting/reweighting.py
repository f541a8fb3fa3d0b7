"""Token weights from the whole global batch, computed before its gradients."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from losses.core.batch_weights import BatchValues, Reweighting
from losses.core.checks import check_finite

Tree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelativeLoss(Reweighting):
    """`b · softmax_i(f(h_i) / spread)` over the rows of the global batch.

    `h_i = (2 l_i - max l - min l) / (max l - min l)` in [-1, 1], l_i being the mean of
    the values in row i. Of the published forms,

    * `"upper"`, `f = min(h, 0)`: easy rows count less, those above mid-range alike;
    * `"quadratic"`, `f = 1 - h²`: rows at both ends count less;
    * `"extremes"`, `f = |h|`: rows at both ends count more.

    The mean weight is 1 and the largest is at most `exp(range f / spread)` times the
    smallest. Where all rows are alike, so are their weights. Rows without a token that
    counts, or whose mean is not finite, have weight 0. Documents packed in one row are
    one sample.

    Attributes:
      form: f.
      spread: a positive divisor of f; the larger, the more alike the weights.
      after: steps of the optimiser with all weights 1, to begin with.

    Source: Sow et al. 2025 (arXiv:2502.06733), there `f = min(h + δ, δ)` with δ = 1,
    the same but for a constant; spread 1 at 124 M parameters, 0.4 at 684 M; after 1000.

    Raises:
      ValueError: the form is none of these, spread is not positive or after negative.
    """

    form: Literal["upper", "quadratic", "extremes"] = "upper"
    spread: float = 1.0
    after: int = 0

    def __post_init__(self):
        check_finite(self)
        if self.form not in _FORMS:
            raise ValueError(f"form must be one of {sorted(_FORMS)}, got {self.form!r}")
        if not self.spread > 0.0:
            raise ValueError(f"spread must be positive, got {self.spread}")
        if self.after < 0:
            raise ValueError(f"after must not be negative, got {self.after}")

    def __call__(
        self, inputs: BatchValues, memory: Tree
    ) -> tuple[Float[Array, "b ..."], Tree]:
        means, nonempty = _finite(*inputs.row_means())
        most = jnp.max(jnp.where(nonempty, means, -jnp.inf))
        least = jnp.min(jnp.where(nonempty, means, jnp.inf))
        width = jnp.maximum(most - least, 1e-6)
        h = jnp.clip((2.0 * means - most - least) / width, -1.0, 1.0)
        scores = jnp.where(nonempty, _FORMS[self.form](h) / self.spread, -jnp.inf)
        share = jnp.where(nonempty, jax.nn.softmax(scores), 0.0)
        weights = share * jnp.sum(nonempty, dtype=jnp.float32)
        weights = jnp.where(inputs.step < self.after, jnp.ones_like(weights), weights)
        return inputs.to_tokens(weights), memory


_FORMS = {
    "upper": lambda h: jnp.minimum(h, 0.0),
    "quadratic": lambda h: 1.0 - jnp.square(h),
    "extremes": jnp.abs,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearningProgress(Reweighting):
    """`clip(scale · (1 - σ(sharpness · (l_before - l_now))), least, most)` a row.

    l is the mean of the values in a row, `l_before` that of the last batch with the
    row: rows that have stopped improving count more. The table of them is part of the
    train state and its checkpoints. A row's first weight is 1; of a row that is in a
    batch twice, the table holds the mean. A mean that is not finite leaves no trace.

    Source: arXiv:2601.04992, there scale 1 or 2, sharpness 10 to 30, clipped to
    [0.5, 5]. At scale 1 a row that stays as it is has weight 1/2, which halves the
    learning rate from the second epoch on; at 2 it has weight 1.

    Attributes:
      num_rows: of the dataset.
      scale: a positive factor.
      sharpness: of the sigmoid.
      least: the smallest weight.
      most: the largest weight.

    Raises:
      ValueError: a number is not positive, or `least` exceeds `most`.
    """

    num_rows: int
    scale: float = 2.0
    sharpness: float = 10.0
    least: float = 0.5
    most: float = 5.0

    def __post_init__(self):
        check_finite(self)
        for name in ("num_rows", "scale", "sharpness"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.least > self.most:
            raise ValueError(f"least {self.least} must not exceed most {self.most}")

    def initial(self) -> Tree:
        return {
            "loss": jnp.zeros(self.num_rows, jnp.float32),
            "seen": jnp.zeros(self.num_rows, bool),
        }

    def __call__(
        self, inputs: BatchValues, memory: Tree
    ) -> tuple[Float[Array, "b ..."], Tree]:
        means, nonempty = _finite(*inputs.row_means())
        index = inputs.batch["index"]
        gain = self.sharpness * (memory["loss"][index] - means)
        weights = jnp.clip(self.scale * jax.nn.sigmoid(-gain), self.least, self.most)
        weights = jnp.where(memory["seen"][index], weights, 1.0)
        counts = _sum_at(index, nonempty.astype(jnp.float32), self.num_rows)
        sums = _sum_at(index, jnp.where(nonempty, means, 0.0), self.num_rows)
        in_batch = counts > 0.0
        new_memory = {
            "loss": jnp.where(
                in_batch, sums / jnp.maximum(counts, 1.0), memory["loss"]
            ),
            "seen": memory["seen"] | in_batch,
        }
        return inputs.to_tokens(weights), new_memory


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowTable(Reweighting):
    """`table[row]`, from a `.npy` file `[num_rows]` of floats.

    The file is read when training starts; from then on the table is part of the train
    state, so that a resumed run has the same one. For weights by the likelihood p of a
    row, say that of its cluster (arXiv:2308.09878), store `(1 + (1 - p)^5) / 2`.

    Attributes:
      path: of the file.
      num_rows: of the dataset.

    Raises:
      ValueError: the file has another shape.
    """

    path: str
    num_rows: int
    wants_values = False

    def initial(self) -> Tree:
        table = np.load(self.path)
        if table.shape != (self.num_rows,):
            raise ValueError(
                f"{self.path}: expected shape ({self.num_rows},), got {table.shape}"
            )
        return {"table": jnp.asarray(table, jnp.float32)}

    def __call__(
        self, inputs: BatchValues, memory: Tree
    ) -> tuple[Float[Array, "b ..."], Tree]:
        return inputs.to_tokens(memory["table"][inputs.batch["index"]]), memory


@dataclasses.dataclass(frozen=True, kw_only=True)
class Span(Reweighting):
    """`inside` from a token `begin` to the next `end` of the same document.

    A token is inside if, among the tokens up to it, `begin` came after the document's
    start and after the last `end`: so the first value inside is that of the target
    which follows `begin`, and the last that of `end` itself. The answers of a chat, or
    the fields of a form, without another mask.

    Attributes:
      begin: an id of the tokenizer.
      end: an id of the tokenizer.
      inside: weight inside.
      outside: weight elsewhere.

    Raises:
      ValueError: a weight is not finite.
    """

    begin: int
    end: int
    inside: float = 1.0
    outside: float = 0.0
    wants_values = False

    def __post_init__(self):
        check_finite(self)

    def __call__(
        self, inputs: BatchValues, memory: Tree
    ) -> tuple[Float[Array, "b ..."], Tree]:
        tokens = inputs.batch["tokens"]
        at = jax.lax.broadcasted_iota(jnp.int32, tokens.shape, tokens.ndim - 1)

        def last(token: int) -> Int[Array, "b ..."]:
            """Return the position in the row of the last `token` up to each one."""
            return jax.lax.cummax(
                jnp.where(tokens == token, at, -1), axis=tokens.ndim - 1
            )

        start = at - inputs.batch["positions"].astype(jnp.int32)
        last_begin = last(self.begin)
        within = (last_begin >= start) & (last_begin > last(self.end))
        weights = jnp.where(within, jnp.float32(self.inside), jnp.float32(self.outside))
        return weights, memory

    def explain_zero(self) -> str:
        return f"Span found no {self.begin}"


def _finite(
    means: Float[Array, " b"], nonempty: Bool[Array, " b"]
) -> tuple[Float[Array, " b"], Bool[Array, " b"]]:
    """Return `row_means` as if rows whose mean is not finite had no token."""
    finite = jnp.isfinite(means)
    return jnp.where(finite, means, 0.0), nonempty & finite


def _sum_at(
    index: Int[Array, " b"], values: Float[Array, " b"], size: int
) -> Float[Array, " n"]:
    """Return the sum of the values at each index below `size`."""
    return jnp.zeros(size, jnp.float32).at[index].add(values)
