"""Description of a model: the fields of `Transformer` that change what it computes."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from models.mlp import MLP, GatedMLP, gated_width
from models.moe import MoE
from models.pretrained.entries.window import layers_of, of_layers
from models.routing.scores import Routing
from models.transformer import Transformer

Fields = dict[str, Any]

# Of initial values, and of a machine's arithmetic.
_NOT_OF_A_FILE = {
    *("embedding_init", "head_init", "init", "router_init", "output_scale"),
    *("layers", "dtype", "param_dtype", "rngs"),
}


def describe(model: Callable[..., Any]) -> Fields:
    """Return all fields of a model, none of them left to a default.

    Those of a layer's second half stand beside it: `mlp` is its class, `mlp.hidden_dim`
    its width.

    Args:
      model: `models.Transformer`, or a `functools.partial` of it.

    Raises:
      ValueError: it is another model, or has layers of another kind.
    """
    kind, fields = _bound(model)
    if kind is not Transformer:
        raise ValueError(
            f"{_name(kind)} cannot be exported: it must be a models.Transformer"
        )
    heads, dim = fields["num_heads"], fields["dim"]
    if fields["attention_pattern"]:
        fields |= {"attention_pattern": (), **of_layers(layers_of(fields))}
    fields["num_kv_heads"] = fields["num_kv_heads"] or heads
    latents = fields["latents"]
    usual = latents.head_dim if latents else dim // heads
    fields["head_dim"] = fields["head_dim"] or usual
    if fields["rope_dim"] == fields["head_dim"]:
        fields["rope_dim"] = None
    fields["attention_scale"] = fields["attention_scale"] or 1 / math.sqrt(
        fields["head_dim"]
    )
    if not fields["first_layers"]:
        fields["first_mlp"] = None
    fields |= _second_half("mlp", fields["mlp"], dim)
    if fields["first_mlp"] is None:
        return fields
    return fields | _second_half("first_mlp", fields["first_mlp"], dim)


def _second_half(name: str, make: Callable[..., Any], dim: int) -> Fields:
    """Return a layer's second half, and its fields under dotted names.

    Raises:
      ValueError: it is of another kind.
    """
    kind, fields = _bound(make)
    if kind not in (GatedMLP, MLP, MoE):
        raise ValueError(
            f"{name} {_name(kind)} cannot be exported: it must be models.GatedMLP, "
            "models.MLP or models.MoE"
        )
    fields.pop("dim")
    usual = 4 * dim if kind is MLP else gated_width(dim)
    fields["hidden_dim"] = fields["hidden_dim"] or usual
    if kind is MoE:  # by what rate training moved a bias is of no file
        routing = dataclasses.asdict(fields.pop("routing") or Routing())
        routing["bias"] |= bool(fields.pop("bias_rate"))
        fields |= {f"routing.{field}": x for field, x in routing.items()}
    named = {f"{name}.{field}": x for field, x in fields.items()}
    return {name: kind if name == "mlp" else kind.__name__, **named}


def differences(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], *, rounding: float = 1e-9
) -> list[str]:
    """Return the fields in which two descriptions differ.

    Args:
      ours: a description.
      theirs: another.
      rounding: by which share numbers may differ.
    """
    return [
        name
        for name in ours
        if name not in theirs or not _same(ours[name], theirs[name], rounding)
    ]


def _same(ours: Any, theirs: Any, rounding: float) -> bool:
    if isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=rounding)
    if type(ours) is not type(theirs):
        return ours == theirs
    if isinstance(ours, tuple):
        pairs = zip(ours, theirs, strict=False)
        all_same = all(_same(a, b, rounding) for a, b in pairs)
        return len(ours) == len(theirs) and all_same
    if dataclasses.is_dataclass(ours):
        names = [field.name for field in dataclasses.fields(ours)]
        return all(_same(getattr(ours, n), getattr(theirs, n), rounding) for n in names)
    return ours == theirs


def _bound(make: Callable[..., Any]) -> tuple[Any, Fields]:
    """Return what a partial calls, and its fields with those that have defaults."""
    keywords: Fields = {}
    while isinstance(make, functools.partial):
        keywords = {**make.keywords, **keywords}
        make = make.func
    defaults = {
        name: None if field.default is field.empty else field.default
        for name, field in inspect.signature(make).parameters.items()
    }
    fields = {**defaults, **keywords}
    return make, {n: v for n, v in fields.items() if n not in _NOT_OF_A_FILE}


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", None) or repr(kind)
