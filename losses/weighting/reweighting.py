"""Weights of tokens that are made from the whole global batch, before its gradients."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from losses.core.batch_weights import BatchValues, Reweighting

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
    counts have weight 0. Documents packed in one row are one sample.

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
        if self.form not in _FORMS:
            raise ValueError(f"form must be one of {sorted(_FORMS)}, got {self.form!r}")
        if not self.spread > 0.0:
            raise ValueError(f"spread must be positive, got {self.spread}")
        if self.after < 0:
            raise ValueError(f"after must not be negative, got {self.after}")

    def __call__(self, spread: BatchValues, memory: Tree) -> tuple[jax.Array, Tree]:
        of_row, counted = spread.of_rows()
        most = jnp.max(jnp.where(counted, of_row, -jnp.inf))
        least = jnp.min(jnp.where(counted, of_row, jnp.inf))
        width = jnp.maximum(most - least, 1e-6)
        h = jnp.clip((2.0 * of_row - most - least) / width, -1.0, 1.0)
        scores = jnp.where(counted, _FORMS[self.form](h) / self.spread, -jnp.inf)
        share = jnp.where(counted, jax.nn.softmax(scores), 0.0)
        weights = share * jnp.sum(counted, dtype=jnp.float32)
        weights = jnp.where(spread.step < self.after, jnp.ones_like(weights), weights)
        return spread.to_tokens(weights), memory


_FORMS = {
    "upper": lambda h: jnp.minimum(h, 0.0),
    "quadratic": lambda h: 1.0 - jnp.square(h),
    "extremes": jnp.abs,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearningProgress(Reweighting):
    """`clip(scale · (1 - σ(sharpness · (l_before - l_now))), least, most)` a row.

    l is the mean of the values in a row, `l_before` the one when the row was seen last:
    rows that have stopped improving count more. The table of them lives in the train
    state, is checkpointed and restored with it. A row seen for the first time has
    weight 1; one that a batch holds twice is remembered by the mean.

    Source: arXiv:2601.04992, there scale 1 or 2, sharpness 10 to 30, clipped to
    [0.5, 5]. At scale 1 a row that stays as it is has weight 1/2, which halves the
    learning rate from the second epoch on; at 2 it has weight 1.

    num_rows: of the dataset.

    Raises:
      ValueError: a number is not positive, or `least` exceeds `most`.
    """

    num_rows: int
    scale: float = 2.0
    sharpness: float = 10.0
    least: float = 0.5
    most: float = 5.0

    def __post_init__(self):
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

    def __call__(self, spread: BatchValues, memory: Tree) -> tuple[jax.Array, Tree]:
        now, counted = spread.of_rows()
        index = spread.batch["index"]
        gain = self.sharpness * (memory["loss"][index] - now)
        weights = jnp.clip(self.scale * jax.nn.sigmoid(-gain), self.least, self.most)
        weights = jnp.where(memory["seen"][index], weights, 1.0)
        times = _added_at(index, counted.astype(jnp.float32), self.num_rows)
        sums = _added_at(index, jnp.where(counted, now, 0.0), self.num_rows)
        here = times > 0.0
        following = {
            "loss": jnp.where(here, sums / jnp.maximum(times, 1.0), memory["loss"]),
            "seen": memory["seen"] | here,
        }
        return spread.to_tokens(weights), following


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowTable(Reweighting):
    """`table[row]`, from a `.npy` file `[num_rows]` of floats.

    It is read when training starts and lives in the train state from then on, so that a
    run goes on with the table it began with. For weights by the likelihood p of a row,
    say that of its cluster (arXiv:2308.09878), store `(1 + (1 - p)^5) / 2`.

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

    def __call__(self, spread: BatchValues, memory: Tree) -> tuple[jax.Array, Tree]:
        return spread.to_tokens(memory["table"][spread.batch["index"]]), memory


@dataclasses.dataclass(frozen=True, kw_only=True)
class Span(Reweighting):
    """`inside` from a token `begin` to the next `end` of the same document.

    A token is inside if, among the tokens up to it, `begin` came after the document's
    start and after the last `end`: so the first value inside is that of the target
    which follows `begin`, and the last that of `end` itself. The answers of a chat, or
    the fields of a form, without another mask.

    begin, end: ids of the tokenizer.
    """

    begin: int
    end: int
    inside: float = 1.0
    outside: float = 0.0
    wants_values = False

    def __call__(self, spread: BatchValues, memory: Tree) -> tuple[jax.Array, Tree]:
        tokens = spread.batch["tokens"]
        at = jax.lax.broadcasted_iota(jnp.int32, tokens.shape, tokens.ndim - 1)

        def last(token: int) -> jax.Array:
            return jax.lax.cummax(
                jnp.where(tokens == token, at, -1), axis=tokens.ndim - 1
            )

        start = at - spread.batch["positions"].astype(jnp.int32)
        begun = last(self.begin)
        within = (begun >= start) & (begun > last(self.end))
        weights = jnp.where(within, jnp.float32(self.inside), jnp.float32(self.outside))
        return weights, memory


def _added_at(index: jax.Array, values: jax.Array, size: int) -> jax.Array:
    return jnp.zeros(size, jnp.float32).at[index].add(values)
