"""The model interface: a trunk, a head and named intermediates."""

import abc
import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from models import checks

Array = jax.Array
Batch = Mapping[str, Array]

ROW_SEED = "row_seed"
"""Entry of the batch: a number drawn for each row and step, uint32 `[b]`."""

EMBEDDING_SHIFT = "embedding_shift"
"""Entry of the batch: what is added to the embeddings of its tokens, `[b t d]`."""

ROUTER_EMBEDDING = "router_embedding"
"""Intermediate of a mixture of experts that is made where it is captured, `[*b d]`."""

_POLICIES = jax.checkpoint_policies

REMAT: Mapping[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "none": lambda block: block,
    # Stores products with weights; recomputes norms, activations, attention scores.
    "dots": functools.partial(
        jax.checkpoint, policy=_POLICIES.dots_with_no_batch_dims_saveable
    ),
    # Stores the input of each block alone.
    "full": jax.checkpoint,
}


def check_remat(remat: str) -> str:
    """Return `remat` if it is a name in `REMAT`; ValueError otherwise."""
    return checks.one_of("remat", remat, REMAT)


@dataclasses.dataclass(frozen=True)
class TrunkOutput:
    """Everything a model computes before its head.

    Attributes:
      hidden: `[*b d]`, the input of `Model.head`.
      intermediates: by path; a path without a layer is `[*b layer ...]`, with one
        (`hidden/3`) `[*b ...]`.
    """

    hidden: Array
    intermediates: Mapping[str, Array]


jax.tree_util.register_dataclass(
    TrunkOutput, data_fields=["hidden", "intermediates"], meta_fields=[]
)


class Configurable(nnx.Module):
    """Module whose fields a config graph can read.

    The metaclass of `nnx.Module` hides the signature of `__init__`, and with it the
    names, defaults and tags that Fiddle reads; this shows it again.
    """

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        signature = inspect.signature(cls.__init__)
        fields = list(signature.parameters.values())[1:]
        cls.__signature__ = signature.replace(parameters=fields)


class Model(Configurable):
    """Model in two halves, so that logits `[tokens, vocabulary]` can come in blocks.

    `trunk` runs over the whole batch; `head` is position-wise and is called on blocks
    of tokens. The axes `*b` are those of `batch["targets"]`: `[b t]` of rows of tokens,
    `[b]` of images.

    Attributes:
      dim: width of the hidden states that the head reads.
      num_outputs: width of the logits: vocabulary or classes.
      draws: whether the trunk may read `batch["row_seed"]`, uint32 `[b]`, a number for
        each row and step.
      views: second views of the batch that the trunk can run over (`models.Views`).
      reads: entries of a batch that the trunk takes.
      trainable: pattern of the paths of the parameters that are trained where the
        experiment names none; None for all.
    """

    dim: int
    num_outputs: int
    trainable: str | None = None
    draws: bool = False
    views: tuple[tuple[str, Any], ...] = ()
    reads: ClassVar[frozenset[str]] = frozenset({"tokens", "segment_ids", "positions"})

    @abc.abstractmethod
    def trunk(
        self,
        batch: Batch,
        *,
        capture: frozenset[str] = frozenset(),
        remat: str = "none",
    ) -> TrunkOutput:
        """Return hidden states `[*b d]` and the intermediates named in `capture`.

        Args:
          batch: holds the entries of `reads`.
          capture: paths, each in `offers()`.
          remat: which activations of a block are recomputed in the backward pass, a
            name in `REMAT`. Changes memory and time, never the result.

        Raises:
          ValueError: for a path not in `offers()` or a name not in `REMAT`.
        """

    @abc.abstractmethod
    def head(self, hidden: Array) -> Array:
        """Return logits `[*b num_outputs]`, float32.

        Position-wise. Of a parameter with an axis `vocab`, an output depends on its own
        entries alone, so that the head over a slice of them gives a slice of logits.
        """

    @abc.abstractmethod
    def offers(self) -> frozenset[str]:
        """Return the paths that `capture` may name."""

    def trunk_form(self, length: int, platform: str | None = None) -> str:
        """Return how rows of this length are computed, in words; "" is one way only.

        Args:
          length: tokens.
          platform: of the devices, see `models.sharding.platform`; None is that of the
            mesh in force.
        """
        del length, platform
        return ""

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        """Refuse a batch that the trunk cannot take.

        Args:
          batch: arrays, or anything with their shapes, by name.

        Raises:
          ValueError: for an absent entry or one of the wrong shape.
        """
        missing = sorted(self.reads - batch.keys())
        if missing:
            raise ValueError(
                f"{type(self).__name__} reads {', '.join(missing)}; the data has "
                f"{', '.join(batch)}"
            )


def unwrapped(make: Callable[..., Model], wrapper: Any) -> Callable[..., Model]:
    """Return the model in a `functools.partial` of a wrapper; any other as it is."""
    if isinstance(make, functools.partial) and make.func is wrapper:
        return make.keywords["model"]
    return make


def row_keys(batch: Batch) -> jax.Array:
    """Return a key for each row, `[b]`.

    Raises:
      ValueError: the batch holds no seeds.
    """
    if ROW_SEED not in batch:
        raise ValueError(f"a model that draws reads batch[{ROW_SEED!r}]")
    return jax.vmap(jax.random.key)(batch[ROW_SEED])


def check_capture(capture: frozenset[str], offers: frozenset[str]) -> None:
    """Refuse a path of `capture` that is not in `offers`, with ValueError."""
    unknown = sorted(capture - offers)
    if unknown:
        names = ", ".join(sorted(offers))
        raise ValueError(f"no intermediate {unknown[0]!r}; this model has {names}")


def stack_captured(
    capture: frozenset[str], layers: Mapping[str, Sequence[Array] | Array], *, axis: int
) -> dict[str, Array]:
    """Return the captured paths of all layers.

    Args:
      capture: `name` for all layers, `name/i` for layer `i`.
      layers: by name, a list of arrays, None for a layer that has none, or one array
        `[layer ...]`.
      axis: where the layers go in `name`: the first axis after `*b`.
    """
    captured = {}
    for path in sorted(capture):
        name, _, layer = path.partition("/")
        values = layers[name]
        if layer:
            captured[path] = values[int(layer)]
        elif isinstance(values, Array):
            captured[path] = jnp.moveaxis(values, 0, axis)
        else:
            there = [value for value in values if value is not None]
            captured[path] = jnp.stack(there, axis=axis)
    return captured
