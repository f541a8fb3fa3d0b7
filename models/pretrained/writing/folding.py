"""Settings that no published family has, moved into the parameters.

The folded model is the same function: exactly for the order of features, else to one
rounding of a float32 product or sum, which the model makes itself.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from models.pretrained.writing.tensors import Change


@dataclasses.dataclass(frozen=True)
class Folded:
    """A description, and what it takes of the parameters.

    Attributes:
      fields: the description, as `description.describe` has it.
      changes: by role, in order, of arrays in float32.
      settings: those that are folded, for people: `embedding_scale=50.0`.
    """

    fields: Mapping[str, Any]
    changes: Mapping[str, tuple[Change, ...]]
    settings: tuple[str, ...]


def fold(
    fields: Mapping[str, Any],
    *,
    keep: frozenset[str] = frozenset(),
    attention_scale: float | None = None,
    interleave_latents: bool = False,
) -> Folded:
    """Return the description with these settings folded, as far as it can be done.

    `embedding_scale` of a head of its own; `norm_offset`; `attention_scale`;
    `rope_layout`.

    Args:
      fields: of a model.
      keep: those of the settings that the family says itself.
      attention_scale: the one that the family has; None is `1 / sqrt(head_dim)`.
      interleave_latents: the family has `rope_layout="interleaved"` of `latents`.
    """
    plain, settings = dict(fields), []
    changes: dict[str, tuple[Change, ...]] = {}

    def move(field: str, value: Any, roles: dict[str, Change]) -> None:
        settings.append(f"{field}={plain[field]!r}")
        plain[field] = value
        for role, change in roles.items():
            changes[role] = (*changes.get(role, ()), change)

    scaled = fields["embedding_scale"] != 1.0 and not fields["tie_head"]
    if scaled and "embedding_scale" not in keep:
        move("embedding_scale", 1.0, {"embedding": _times(fields["embedding_scale"])})
    if fields["norm_offset"] and "norm_offset" not in keep:
        move("norm_offset", 0.0, dict.fromkeys(_NORMS, _plus(fields["norm_offset"])))
    usual = attention_scale or 1 / math.sqrt(fields["head_dim"])
    if fields["attention_scale"] != usual and "attention_scale" not in keep:
        factor = _times(fields["attention_scale"] / usual)
        roles = ["attention/query_norm/scale"]
        if not fields["qk_norm"]:
            roles = ["attention/query", "attention/query_bias"]
        move("attention_scale", usual, dict.fromkeys(roles, factor))
    if fields["rope_layout"] == "interleaved" and "rope_layout" not in keep:
        halves = _halves(fields["head_dim"], fields["rope_dim"] or fields["head_dim"])
        move("rope_layout", "split", dict.fromkeys(_ROTATED, halves))
    if fields["rope_layout"] == "split" and fields["latents"] and interleave_latents:
        pairs = _pairs(fields["latents"].rope_dim)
        move("rope_layout", "interleaved", dict.fromkeys(_ROTATED_LATENTS, pairs))
    return Folded(plain, changes, tuple(settings))


_NORMS = (
    "norm/scale",
    "attention_norm/scale",
    "attention_post_norm/scale",
    "mlp_norm/scale",
    "mlp_post_norm/scale",
    "attention/query_norm/scale",
    "attention/key_norm/scale",
    "attention/latent_norm/scale",
    "attention/query_latent_norm/scale",
)
_ROTATED = (
    *("attention/query", "attention/query_bias", "attention/query_norm/scale"),
    *("attention/key", "attention/key_bias", "attention/key_norm/scale"),
)

_ROTATED_LATENTS = ("attention/query", "attention/query_up", "attention/latent")


def _times(factor: float) -> Change:
    return lambda array: array * np.float32(factor)


def _plus(offset: float) -> Change:
    return lambda array: array + np.float32(offset)


def _halves(head_dim: int, rope_dim: int) -> Change:
    """Move features `2i, 2i + 1` of each head to `i, i + half`, of the rotated ones.

    Heads lie along the last axis, `[... head_dim]` or `[heads * head_dim]`.
    """

    def change(array: np.ndarray) -> np.ndarray:
        heads = array.reshape(*array.shape[:-1], -1, head_dim)
        first, second = heads[..., 0:rope_dim:2], heads[..., 1:rope_dim:2]
        halves = np.concatenate([first, second, heads[..., rope_dim:]], axis=-1)
        return halves.reshape(array.shape)

    return change


def _pairs(rope_dim: int) -> Change:
    """Move features `i, i + half` to `2i, 2i + 1`, of the last `rope_dim`."""

    def change(array: np.ndarray) -> np.ndarray:
        plain, rotated = array[..., :-rope_dim], array[..., -rope_dim:]
        halves = rotated.reshape(*rotated.shape[:-1], 2, rope_dim // 2)
        pairs = np.swapaxes(halves, -1, -2).reshape(rotated.shape)
        return np.concatenate([plain, pairs], axis=-1)

    return change
