"""Relations between sampled tokens of the global batch, and tokens told apart."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from losses.core.checks import check_choice
from losses.core.of_means import Means
from losses.core.of_rows import PLACE
from losses.core.outputs import IncompatibleLoss, Outputs, PerToken
from losses.core.settled import SettledOnce
from losses.features.layer_pairs import OverLayers, Pairs, check_pairs
from losses.features.projected import INIT
from losses.functional.attention import token_contrast, token_graph
from losses.functional.features import project
from losses.weighting.weights import weight_at_step

Tokens = Float[Array, "n d"]
There = Bool[Array, " n"]
_THERE = "there"


class OfTokens(SettledOnce, abstract=True):
    """`f(X, Y, ...)` of the features of n tokens that are drawn from the global batch.

    Of each row `tokens` are drawn that count, all where it has fewer, others at each
    step; student and teacher have the same. Patches of an image are its tokens. They
    are gathered by a pass over the batch, as rows are in `OfRows`: whatever it is cut
    into, those of all devices and microbatches are compared.

    A loss defines `sampled` and `of_tokens`; its `tokens` is at least 1.
    """

    tokens: int
    scope = "sequence"
    reads_rows = True

    @abc.abstractmethod
    def sampled(self, outputs: Outputs) -> Mapping[str, Float[Array, "..."]]:
        """Return features `[*b ... d]` by name; `teacher/` of a name: constant."""

    @abc.abstractmethod
    def of_tokens(
        self, means: Means, tokens: Mapping[str, Tokens], there: There
    ) -> Float[Array, ""]:
        """Return f, float32.

        Args:
          means: as of `OfMeans`.
          tokens: the sampled features by name, zeros where there are none.
          there: which of them there are.
        """

    def statistic_sums(self, outputs: Outputs, tokens: PerToken) -> Means:
        place = outputs.batch[PLACE].reshape((tokens.shape[0], -1))[:, 0]

        def of_all(values: Float[Array, "b ..."]) -> Float[Array, "..."]:
            empty = jnp.zeros((outputs.num_rows, *values.shape[1:]), jnp.float32)
            return empty.at[place].add(values)

        sums = {}
        for name, rows in self._rows(outputs).items():
            chosen, there = self._choice(outputs, rows.shape[1], tokens > 0.0)
            sums[_THERE] = of_all(there.astype(jnp.float32))
            sums[name] = of_all(_taken(rows, chosen, there))
        return sums

    def of_means(self, means: Means) -> Float[Array, ""]:
        there = means[_THERE] > 0.0
        scale = jnp.where(there, means[_THERE], 1.0)[..., None]
        features = {
            name: (x / scale).reshape((-1, x.shape[-1]))
            for name, x in means.items()
            if name != _THERE and x.ndim
        }
        return self.of_tokens(means, features, there.reshape(-1))

    def deviation(self, outputs: Outputs, slopes: Means) -> PerToken:
        axes = outputs.batch["targets"].shape
        place = outputs.batch[PLACE].reshape((axes[0], -1))[:, 0]
        mask = jnp.ones(axes, bool) if outputs.mask is None else outputs.mask
        total = jnp.zeros(axes, jnp.float32)
        for name, rows in self._rows(outputs).items():
            if name.startswith("teacher/"):
                continue
            chosen, there = self._choice(outputs, rows.shape[1], mask)
            taken = _taken(rows, chosen, there)
            each = jnp.sum(taken * slopes[name][place], axis=-1)
            row = jnp.arange(axes[0])[:, None]
            along = jnp.zeros(rows.shape[:2], jnp.float32).at[row, chosen].add(each)
            # The tokens of a patched image are one token of the batch.
            along = along.reshape((*axes, -1))
            constant = jnp.sum(slopes[name] * outputs.statistics[name])
            total = total + jnp.sum(along, axis=-1) - constant
        return total

    def _rows(self, outputs: Outputs) -> dict[str, Float[Array, "b t d"]]:
        """Return what is sampled, by rows.

        Raises:
          IncompatibleLoss: student and teacher have not the same tokens.
        """
        rows = {
            name: x.astype(jnp.float32).reshape((x.shape[0], -1, x.shape[-1]))
            for name, x in self.sampled(outputs).items()
        }
        lengths = {name: x.shape[1] for name, x in rows.items()}
        if len(set(lengths.values())) > 1:
            numbers = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise IncompatibleLoss(
                f"{type(self).__name__}: a row has not as many tokens on both sides: "
                f"{numbers}"
            )
        return rows

    def _choice(
        self, outputs: Outputs, length: int, mask: Bool[Array, "*b"]
    ) -> tuple[Int[Array, "b n"], Bool[Array, "b n"]]:
        """Return the sampled places in each row, and whether there is a token."""
        rows = mask.shape[0]
        place = outputs.batch[PLACE].reshape((rows, -1))[:, 0]
        counts = mask.reshape((rows, -1))
        counts = jnp.repeat(counts, length // counts.shape[1], axis=1)
        step = jax.random.fold_in(jax.random.key(0), outputs.step)

        def draw(row: Int[Array, ""]) -> Float[Array, " t"]:
            return jax.random.uniform(jax.random.fold_in(step, row), (length,))

        scores = jnp.where(counts, jax.vmap(draw)(place), -1.0)
        best, chosen = jax.lax.top_k(scores, min(self.tokens, length))
        return chosen, best >= 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenGraph(OfTokens, OverLayers):
    """`1/n Σ_i KL(softmax_j A^s_ij ‖ softmax_j A^t_ij)`, nats, over n sampled tokens.

    `A_ij = exp(-|x_i - x_j|² / (2 width))` where j is one of the `neighbors` tokens
    that are nearest to i in the teacher's features, and 0 elsewhere, whose part of the
    softmax is that of 0. Whose neighbours those are the source leaves open.

    Source: Zhang et al. 2023, token-level relationship graphs (arXiv:2306.12442), its
    local loss, summed over tokens there. Beside it are `TokenContrast` and
    `TokenContext`.

    Attributes:
      layers: as in `OverLayers`.
      of: the intermediate: `"hidden"`, or `"patches"` of an image model.
      tokens: sampled of each row.
      neighbors: of each token, among those that are sampled.
      width: σ, of squared distances; None is their mean over the neighbours, of each
        side by itself, as a constant. Of wide states a number leaves nothing: at 1,
        entries of unit variance and 100 features are e^-100 near, and the gradient 0.
      direction: `"reverse"` has the student first, as printed; `"forward"` the teacher.

    Raises:
      ValueError: a number is not positive, or there is no such direction.
    """

    of: str = "hidden"
    tokens: int = 4
    neighbors: int = 8
    width: float | None = 1.0
    direction: Literal["reverse", "forward"] = "reverse"
    unit = "nats"

    def __post_init__(self):
        super().__post_init__()
        check_tokens(self.tokens)
        if self.neighbors < 1 or not (self.width is None or self.width > 0.0):
            raise ValueError(
                f"neighbors and width must be positive, got {self.neighbors} and "
                f"{self.width}"
            )
        check_choice("direction", self.direction, ("reverse", "forward"))

    @property
    def path(self) -> str:
        return self.of

    def sampled(self, outputs: Outputs) -> Mapping[str, Float[Array, "..."]]:
        return {path: outputs.intermediate(path) for path in sorted(self.needs)}

    def of_tokens(
        self, means: Means, tokens: Mapping[str, Tokens], there: There
    ) -> Float[Array, ""]:
        values = [
            token_graph(
                tokens[ours],
                tokens[theirs],
                there,
                neighbors=self.neighbors,
                width=self.width,
                direction=self.direction,
            )
            for ours, theirs in self.paths
        ]
        return jnp.mean(jnp.stack(values))


class TokenContrast(OfTokens, nnx.Module):
    """`-1/n Σ_i log softmax_j(cos(W s_i, t_j) / T)_i`, nats, over n sampled tokens.

    A token of the student is told from all others of the global batch by the teacher's
    features of it. `W` `[student_dim teacher_dim]` is trained and checkpointed with the
    student and no part of it.

    Source: Zhang et al. 2023, token-level relationship graphs (arXiv:2306.12442), its
    global loss, summed over tokens there; T falls as training goes on.

    Args:
      layers: pairs of a student's and a teacher's layer; one W each.
      student_dim: width of the student's features.
      teacher_dim: of the teacher's.
      of: as in `TokenGraph`.
      tokens: sampled of each row.
      temperature: T, or a function of the step (`optax.linear_schedule(...)`).
      rngs: of the initial matrices.

    Raises:
      ValueError: a number is not positive.
    """

    unit = "nats"

    def __init__(
        self,
        *,
        layers: Pairs,
        student_dim: int,
        teacher_dim: int,
        of: str = "hidden",
        tokens: int = 4,
        temperature: float | Callable[[Any], Any] = 0.1,
        rngs: nnx.Rngs,
    ):
        check_pairs(layers)
        check_tokens(tokens)
        if student_dim < 1 or teacher_dim < 1:
            raise ValueError(
                f"widths must be at least 1, got {student_dim} and {teacher_dim}"
            )
        if not callable(temperature) and not temperature > 0.0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.paths = tuple((f"{of}/{i}", f"teacher/{of}/{j}") for i, j in layers)
        self.tokens, self.temperature = tokens, temperature
        self.projections = nnx.Dict(
            {
                f"layer_{i}": nnx.Param(INIT(rngs.params(), (student_dim, teacher_dim)))
                for i, _ in layers
            }
        )

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - fields decide
        return frozenset(path for pair in self.paths for path in pair)

    def sampled(self, outputs: Outputs) -> Mapping[str, Float[Array, "..."]]:
        features = {}
        for ours, theirs in self.paths:
            matrix = self.projections[f"layer_{ours.rpartition('/')[2]}"][...]
            student, teacher = outputs.intermediate(ours), outputs.intermediate(theirs)
            if (student.shape[-1], teacher.shape[-1]) != matrix.shape:
                raise IncompatibleLoss(
                    f"TokenContrast: {ours} and {theirs} are {student.shape[-1]} and "
                    f"{teacher.shape[-1]} wide, and student_dim and teacher_dim say "
                    f"{matrix.shape[0]} and {matrix.shape[1]}"
                )
            features |= {ours: project(student, matrix), theirs: teacher}
        return features

    def statistic_sums(self, outputs: Outputs, tokens: PerToken) -> Means:
        temperature = weight_at_step(
            self.temperature, jnp.asarray(outputs.step), "temperature"
        )
        sums = super().statistic_sums(outputs, tokens)
        return {**sums, "temperature": temperature * jnp.sum(tokens)}

    def of_tokens(
        self, means: Means, tokens: Mapping[str, Tokens], there: There
    ) -> Float[Array, ""]:
        temperature = jnp.where(jnp.any(there), means["temperature"], 1.0)
        values = [
            token_contrast(tokens[ours], tokens[theirs], there, temperature=temperature)
            for ours, theirs in self.paths
        ]
        return jnp.mean(jnp.stack(values))


def check_tokens(tokens: int) -> None:
    """Refuse a number of tokens below 1.

    Raises:
      ValueError: it is.
    """
    if tokens < 1:
        raise ValueError(f"tokens must be at least 1, got {tokens}")


def _taken(
    rows: Float[Array, "b t d"], chosen: Int[Array, "b n"], there: Bool[Array, "b n"]
) -> Float[Array, "b n d"]:
    taken = jnp.take_along_axis(rows, chosen[..., None], axis=1)
    return jnp.where(there[..., None], taken, 0.0)
