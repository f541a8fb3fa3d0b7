"""The part of rotary embeddings: `rope_parameters` of new files, two entries of old."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from models import rope_scaling
from models.pretrained.entries.part import Entries, Fields, Part
from models.pretrained.entries.settings import Settings


def rope(
    default: float = 10_000.0,
    *,
    share: float | None = None,
    kinds: Sequence[str] | None = None,
    names: tuple[str, str] = ("rope_theta", "partial_rotary_factor"),
) -> Part:
    """Return the part of rotations.

    Args:
      default: the base where a file names none.
      share: of a head's features that are rotated where a file names none; None where
        all have to be.
      kinds: of scaling that transformers has for the family; None is all.
      names: of the entries beside `rope_parameters` for the base and the share.
    """
    if share is None:
        read = functools.partial(rotations, default=default, kinds=kinds)
        return Part(read, lambda f: written(f["rope_base"], f["rope_scaling"]))

    def read_some(settings: Settings) -> Fields:
        fields = rotations(
            settings,
            default=settings.take(names[0], default),
            share=settings.take(names[1], share),
            kinds=kinds,
        )
        width = settings.take("hidden_size") // settings.take("num_attention_heads")
        size = settings.take("head_dim", width)
        return {**fields, "rope_dim": int(size * fields["rope_dim"])}

    def write_some(fields: Mapping[str, Any]) -> Entries:
        entries = written(fields["rope_base"], fields["rope_scaling"])
        rotated = fields["rope_dim"] or fields["head_dim"]
        entries["rope_parameters"]["partial_rotary_factor"] = (
            rotated / fields["head_dim"]
        )
        return entries

    return Part(read_some, write_some)


def rotations(
    settings: Settings,
    *,
    default: float = 10_000.0,
    share: float | None = None,
    kinds: Sequence[str] | None = None,
) -> Fields:
    """Return `rope_base`, `rope_scaling`, and the share of features as `rope_dim`.

    Read of `rope_theta` and `rope_scaling` in old files, of `rope_parameters` in new.

    Raises:
      ValueError: for an entry that is not supported.
    """
    settings.demand("rope_interleaved", False)
    old = settings.take("rope_scaling", {})
    entries = Settings(settings.file, settings.take("rope_parameters", old))
    outer = settings.take("rope_theta", None)
    base = entries.take("rope_theta", default if outer is None else outer)
    if outer is not None and outer != base:
        settings.refuse("rope_theta", outer, f"rope_parameters has another, {base}")
    partial = {}
    if share is None:
        settings.demand("partial_rotary_factor", 1.0)
        entries.demand("partial_rotary_factor", 1.0)
    else:
        outer = settings.take("partial_rotary_factor", share)
        partial = {"rope_dim": entries.take("partial_rotary_factor", outer)}
    kind = entries.take("rope_type", entries.take("type", "default"))
    kind = "longrope" if kind == "su" else kind  # in older files of Phi-3
    known = sorted(_SCALINGS if kinds is None else kinds)
    if kind not in known:
        entries.refuse("rope type", kind, f"it must be one of {known}")
    scaling_kind, names, optional = _SCALINGS[kind]
    values = {field: entries.take(name) for name, field in names.items()}
    for name, field in optional.items():
        value = entries.take(name, None)
        values |= {} if value is None else {field: value}
    if kind == "yarn":
        values |= _amplitude(entries, values)
    if kind == "longrope":
        values = _long(settings, entries, values)
    entries.finish()
    scaling = scaling_kind(**values) if scaling_kind else None
    return {"rope_base": float(base), "rope_scaling": scaling, **partial}


def _amplitude(entries: Settings, values: Mapping[str, Any]) -> Fields:
    """Read DeepSeek's two factors of `ln factor`, where no `attention_factor` is."""
    scales = [entries.take(name, None) for name in ("mscale", "mscale_all_dim")]
    if "amplitude" in values or not all(scales):
        return {}
    above, below = (
        1 + scale * (rope_scaling.usual_amplitude(values["factor"]) - 1)
        for scale in scales
    )
    return {"amplitude": above / below}


def _long(settings: Settings, entries: Settings, values: Fields) -> Fields:
    """Add the length before the extension, and the amplitude that follows from it."""
    name = "original_max_position_embeddings"
    inner = entries.take(name, None)
    original = settings.take(name, *([] if inner is None else [inner]))
    longest = settings.take("max_position_embeddings", original)
    factor = entries.take("factor", longest / original)
    return {
        "amplitude": rope_scaling.long_amplitude(factor, original),
        **values,
        "short": tuple(map(float, values["short"])),
        "long": tuple(map(float, values["long"])),
        "original_length": original,
    }


def written(base: float, scaling: Any) -> Entries:
    """Return `rope_parameters`; what stands at its default may be left out."""
    rope: Entries = {"rope_theta": base, "rope_type": "default"}
    for kind, (scaling_kind, names, optional) in _SCALINGS.items():
        if scaling_kind and isinstance(scaling, scaling_kind):
            rope["rope_type"] = kind
            values = {name: getattr(scaling, f) for name, f in names.items()}
            extra = {name: getattr(scaling, f) for name, f in optional.items()}
            rope |= values | {n: x for n, x in extra.items() if _USUAL[n] != x}
    if isinstance(scaling, rope_scaling.LongRoPE):
        rope |= {n: list(rope[n]) for n in ("short_factor", "long_factor")}
        rope["original_max_position_embeddings"] = scaling.original_length
    return {"rope_parameters": rope}


_USUAL = {
    "attention_factor": None,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": True,
}
# By `rope_type`: our class, its fields by the entries' names, and those that may be
# absent.
_SCALINGS: dict[str, tuple[type | None, dict[str, str], dict[str, str]]] = {
    "default": (None, {}, {}),
    "linear": (rope_scaling.Linear, {"factor": "factor"}, {}),
    "llama3": (
        rope_scaling.Llama3,
        {
            "factor": "factor",
            "low_freq_factor": "low_turns",
            "high_freq_factor": "high_turns",
            "original_max_position_embeddings": "original_length",
        },
        {},
    ),
    "longrope": (
        rope_scaling.LongRoPE,
        {"short_factor": "short", "long_factor": "long"},
        {"attention_factor": "amplitude"},
    ),
    "yarn": (
        rope_scaling.YaRN,
        {
            "factor": "factor",
            "original_max_position_embeddings": "original_length",
        },
        {
            "attention_factor": "amplitude",
            "beta_fast": "fast_turns",
            "beta_slow": "slow_turns",
            "truncate": "truncate",
        },
    ),
}
