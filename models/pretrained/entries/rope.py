"""The part of rotary embeddings: `rope_parameters` of new files, two entries of old."""

import functools
from typing import Any

from models import rope_scaling
from models.pretrained.entries.part import Entries, Fields, Part
from models.pretrained.entries.settings import Settings


def rope(default: float = 10_000.0) -> Part:
    """Return the part of a family whose base, where a file names none, is `default`."""
    read = functools.partial(rotations, default=default)
    return Part(read, lambda f: written(f["rope_base"], f["rope_scaling"]))


def rotations(settings: Settings, *, default: float = 10_000.0) -> Fields:
    """Return `rope_base` and `rope_scaling`.

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
    entries.demand("partial_rotary_factor", 1.0)
    kind = entries.take("rope_type", entries.take("type", "default"))
    scaling = None
    if kind in _SCALINGS:
        scaling_kind, scaling_names = _SCALINGS[kind]
        scaling = scaling_kind(
            **{field: entries.take(name) for name, field in scaling_names.items()}
        )
    elif kind != "default":
        entries.refuse("rope type", kind, "it must be 'default', 'linear' or 'llama3'")
    entries.finish()
    return {"rope_base": float(base), "rope_scaling": scaling}


def written(base: float, scaling: Any) -> Entries:
    """Return `rope_parameters`."""
    rope: Entries = {"rope_theta": base, "rope_type": "default"}
    for kind, (scaling_kind, scaling_names) in _SCALINGS.items():
        if isinstance(scaling, scaling_kind):
            rope["rope_type"] = kind
            rope |= {name: getattr(scaling, f) for name, f in scaling_names.items()}
    return {"rope_parameters": rope}


# By `rope_type`: our class, and its fields by the entries' names.
_SCALINGS: dict[str, tuple[type, dict[str, str]]] = {
    "linear": (rope_scaling.Linear, {"factor": "factor"}),
    "llama3": (
        rope_scaling.Llama3,
        {
            "factor": "factor",
            "low_freq_factor": "low_turns",
            "high_freq_factor": "high_turns",
            "original_max_position_embeddings": "original_length",
        },
    ),
}
