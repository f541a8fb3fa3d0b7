"""Parts of rotary embeddings in `.gguf` files: their base, and context extension."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from models import rope_scaling
from models.pretrained.entries.gguf_stored import Stored
from models.pretrained.entries.part import Entries, Fields, Part

KINDS = ("none", "linear", "longrope", "yarn")


def factors(fields: Mapping[str, Any]) -> np.ndarray | None:
    """Return the divisors of the frequencies that stand in a tensor, float32.

    As llama.cpp's converter has them, for scalings that no entry says.
    """
    scaling = fields["rope_scaling"]
    if isinstance(scaling, _SAID):
        return None
    if isinstance(scaling, rope_scaling.PerFrequency):
        return np.array(scaling.factors, np.float32)
    exponents = np.arange(0, fields["head_dim"], 2) / fields["head_dim"]
    frequencies = np.float32(fields["rope_base"] ** -exponents)
    return frequencies / np.asarray(scaling(frequencies))


def long_factors(fields: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return LongRoPE's divisors of short texts and of long ones, float32."""
    scaling = fields["rope_scaling"]
    if not isinstance(scaling, rope_scaling.LongRoPE):
        return None
    return np.array(scaling.short, np.float32), np.array(scaling.long, np.float32)


def rotations(stored: Stored) -> Fields:
    """Return `rope_base` and `rope_scaling`.

    Raises:
      ValueError: for an entry that is not supported.
    """
    base = stored.unsaid.take("rope_theta", stored.take("rope.freq_base", None))
    return {"rope_base": float(base), "rope_scaling": _scaling(stored)}


def written(base: float, scaling: Any) -> Entries:
    """Return the entries; none says the scalings that are `factors`.

    llama.cpp reads neither the turns of YaRN nor `yarn_attn_factor`, which its
    converter writes: what is written has the usual ones, and `attn_factor`.
    """
    entries: Entries = {"rope.freq_base": base}
    if isinstance(scaling, rope_scaling.Linear):
        entries["rope.scaling.type"] = "linear"
        entries["rope.scaling.factor"] = scaling.factor
    if isinstance(scaling, rope_scaling.YaRN):
        usual = rope_scaling.usual_amplitude(scaling.factor)
        entries["rope.scaling.type"] = "yarn"
        entries["rope.scaling.factor"] = scaling.factor
        entries["rope.scaling.original_context_length"] = scaling.original_length
        if scaling.amplitude not in (None, usual):
            entries["rope.scaling.attn_factor"] = scaling.amplitude / usual
    if isinstance(scaling, rope_scaling.LongRoPE):
        entries["rope.scaling.type"] = "longrope"
        entries["rope.scaling.original_context_length"] = scaling.original_length
        entries["rope.scaling.attn_factor"] = scaling.amplitude
    return entries


def _scaling(stored: Stored) -> Any:
    settings, divisors = stored.settings, stored.rope_factors
    usual = "none" if stored.long_rope is None else "longrope"
    kind = settings.take("rope.scaling.type", usual)
    if kind not in KINDS:
        settings.refuse("rope.scaling.type", kind, f"it must be one of {list(KINDS)}")
    if kind != "none" and divisors is not None:
        settings.refuse("rope.scaling.type", kind, "the file also holds rope_freqs")
    if kind == "linear":
        return rope_scaling.Linear(factor=settings.take("rope.scaling.factor"))
    if kind == "yarn":
        return _yarn(stored)
    if kind == "longrope" and stored.long_rope is None:
        settings.refuse("rope.scaling.type", kind, "the file has no rope_factors")
    if stored.long_rope is not None:
        return _long(settings, *stored.long_rope)
    settings.take("rope.scaling.factor", None)
    if divisors is None:
        return None
    return rope_scaling.PerFrequency(factors=tuple(divisors.tolist()))


def _long(settings: Any, short: np.ndarray, long: np.ndarray) -> rope_scaling.LongRoPE:
    """Read LongRoPE, by its tensors: the converter names no type for Phi-3."""
    length = settings.take("context_length", None)
    settings.take("rope.scaling.factor", None)
    return rope_scaling.LongRoPE(
        short=tuple(short.tolist()),
        long=tuple(long.tolist()),
        original_length=settings.take("rope.scaling.original_context_length", length),
        amplitude=settings.take("rope.scaling.attn_factor", 1.0),
    )


def _yarn(stored: Stored) -> rope_scaling.YaRN:
    """Read YaRN as the converter writes it."""
    settings = stored.settings
    factor = settings.take("rope.scaling.factor")
    length = settings.take("context_length", None)
    share = settings.take("rope.scaling.attn_factor", None)
    usual = rope_scaling.usual_amplitude(factor)
    amplitude = None if share is None else share * usual
    return rope_scaling.YaRN(
        factor=factor,
        original_length=settings.take("rope.scaling.original_context_length", length),
        fast_turns=settings.take("rope.scaling.yarn_beta_fast", 32.0),
        slow_turns=settings.take("rope.scaling.yarn_beta_slow", 1.0),
        amplitude=settings.take("rope.scaling.yarn_attn_factor", amplitude),
        truncate=stored.unsaid.take("truncate"),
    )


# LongRoPE has two tensors of its own.
_SAID = (
    type(None),
    rope_scaling.Linear,
    rope_scaling.LongRoPE,
    rope_scaling.YaRN,
)
ROPE = Part(rotations, lambda f: written(f["rope_base"], f["rope_scaling"]))
