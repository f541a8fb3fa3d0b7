"""What the runner asks of a model: a trunk, a head, and named intermediates."""

import abc
import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

Array = jax.Array
Batch = Mapping[str, Array]

_POLICIES = jax.checkpoint_policies

REMAT: Mapping[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "none": lambda block: block,
    # Products with weights are kept; norms, activations and attention scores are not.
    "dots": functools.partial(
        jax.checkpoint, policy=_POLICIES.dots_with_no_batch_dims_saveable
    ),
    # Only the input of each block is kept.
    "full": jax.checkpoint,
}


def check_remat(remat: str) -> str:
    """`remat`, or ValueError with the names there are."""
    if remat not in REMAT:
        raise ValueError(f"remat must be one of {sorted(REMAT)}, got {remat!r}")
    return remat


@dataclasses.dataclass(frozen=True)
class TrunkOutput:
    """Everything a model computes before its head.

    hidden:        `[*b d]`, what `Model.head` reads.
    intermediates: by path; a path without a layer is `[*b layer ...]`, with one
                   (`hidden/3`) `[*b ...]`.
    """

    hidden: Array
    intermediates: Mapping[str, Array]


jax.tree_util.register_dataclass(
    TrunkOutput, data_fields=["hidden", "intermediates"], meta_fields=[]
)


class Configurable(nnx.Module):
    """A module whose fields a graph can see.

    The metaclass of `nnx.Module` hides the signature of `__init__`, and with it the
    names, defaults and tags that Fiddle reads.
    """

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        signature = inspect.signature(cls.__init__)
        fields = list(signature.parameters.values())[1:]
        cls.__signature__ = signature.replace(parameters=fields)


class Model(Configurable):
    """A model in two halves, so that `[tokens, vocabulary]` need never exist whole.

    `trunk` runs over the whole batch; `head` is position-wise and is called on blocks
    of tokens. The axes `*b` are those of `batch["targets"]`: `[b t]` of rows of tokens,
    `[b]` of images.

    reads: the entries of a batch that the trunk takes.
    """

    num_outputs: int
    reads: ClassVar[frozenset[str]] = frozenset({"tokens", "segment_ids", "positions"})

    @abc.abstractmethod
    def trunk(
        self,
        batch: Batch,
        *,
        capture: frozenset[str] = frozenset(),
        remat: str = "none",
    ) -> TrunkOutput:
        """Hidden states `[*b d]` and the intermediates named in `capture`.

        remat: which activations of a block are recomputed in the backward pass, a name
            in `REMAT`. It moves memory and time, never the result.

        Raises: ValueError for a path not in `offers()` or a name not in `REMAT`.
        """

    @abc.abstractmethod
    def head(self, hidden: Array) -> Array:
        """Logits `[*b num_outputs]`, float32.

        Of a parameter whose axes name `vocab`, an output depends on its own entries
        alone; so the head over some of them gives the logits of these.
        """

    @abc.abstractmethod
    def offers(self) -> frozenset[str]:
        """Every path that `capture` may name."""

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        """ValueError unless the trunk can take arrays of these shapes, by name."""
        missing = sorted(self.reads - batch.keys())
        if missing:
            raise ValueError(
                f"{type(self).__name__} reads {', '.join(missing)}; the data has "
                f"{', '.join(batch)}"
            )


def check_capture(capture: frozenset[str], offers: frozenset[str]) -> None:
    """ValueError unless `offers` holds every path of `capture`."""
    unknown = sorted(capture - offers)
    if unknown:
        names = ", ".join(sorted(offers))
        raise ValueError(f"no intermediate {unknown[0]!r}; this model has {names}")


def stack_captured(
    capture: frozenset[str], layers: Mapping[str, Sequence[Array] | Array], *, axis: int
) -> dict[str, Array]:
    """The captured paths, from one list of arrays a name, or its array `[layer ...]`.

    `name` has the layers on `axis` (the first one after `*b`), `name/i` picks entry
    `i`.
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
            captured[path] = jnp.stack(values, axis=axis)
    return captured
