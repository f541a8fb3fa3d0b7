"""The parts of attention windows, of all layers or of some; with their rotations."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from models.layer_attention import LayerAttention, repeated
from models.pretrained.entries import rope
from models.pretrained.entries.part import Entries, Fields, Part
from models.pretrained.entries.settings import Settings

_FULL_LAYERS = 28  # `max_window_layers`, where the file names none
FULL, SLIDING = "full_attention", "sliding_attention"
ABSENT = 4096
"""The window where a file has no such entry; null is no window."""

_BASES = {FULL: 1_000_000.0, SLIDING: 10_000.0}

Kinds = tuple[LayerAttention, ...]


def of_layers(kinds: Kinds) -> Fields:
    """Return the fields for the kind of each layer, a pattern where they differ."""
    if len(set(kinds)) > 1 or not kinds[0].rotary:
        return {"attention_pattern": kinds}
    return {
        "attention_window": kinds[0].window,
        "rope_base": kinds[0].rope_base,
        "rope_scaling": kinds[0].rope_scaling,
    }


def layers_of(fields: Mapping[str, Any]) -> Kinds:
    """Return the kind of each layer."""
    uniform = LayerAttention(
        window=fields["attention_window"],
        rope_base=fields["rope_base"],
        rope_scaling=fields["rope_scaling"],
    )
    return repeated(fields["attention_pattern"] or [uniform], fields["num_layers"])


def named(settings: Settings, default: Callable[[int], str]) -> list[str]:
    """Return the names of all layers' kinds, those of `default` where none are named.

    Raises:
      ValueError: there are others, or not one a layer.
    """
    count = settings.take("num_hidden_layers")
    names = settings.take("layer_types", []) or [default(i) for i in range(count)]
    if len(names) != count or not set(names) <= {FULL, SLIDING}:
        settings.refuse(
            "layer_types", names, f"they must be {FULL!r} or {SLIDING!r}, one a layer"
        )
    return names


def names_of(kinds: Kinds) -> list[str]:
    """Return `layer_types`."""
    return [FULL if kind.window is None else SLIDING for kind in kinds]


def widest(kinds: Kinds) -> int | None:
    """Return the window of the layers that have one, `sliding_window`."""
    return max((kind.window for kind in kinds if kind.window), default=None)


def _read_switched(settings: Settings) -> Fields:
    """Read a window that is off unless `use_sliding_window`."""
    window = settings.take("sliding_window", None, absent=ABSENT)
    enabled = settings.take("use_sliding_window", False)
    return {"attention_window": window if enabled else None}


def _write_switched(fields: Mapping[str, Any]) -> Entries:
    window = fields["attention_window"]
    return {"use_sliding_window": window is not None, "sliding_window": window}


def _read_qwen(settings: Settings) -> Fields:
    """Read a window of layers from `max_window_layers` on, or of `layer_types`."""
    first = settings.take("max_window_layers", _FULL_LAYERS)
    return _read_some(settings, lambda i: i >= first)


def _read_qwen_2_moe(settings: Settings) -> Fields:
    """Read a window of every other layer up to `max_window_layers`."""
    end = settings.take("max_window_layers", _FULL_LAYERS)
    return _read_some(settings, lambda i: i % 2 == 0 and i < end)


def _read_some(settings: Settings, slides: Callable[[int], bool]) -> Fields:
    """Read a window of the layers that `slides` says, or of `layer_types`."""
    window = _read_switched(settings)["attention_window"]
    names = named(
        settings, lambda i: SLIDING if slides(i) and window is not None else FULL
    )
    if window is None and SLIDING in names:
        settings.refuse("layer_types", names, f"{SLIDING!r} needs a sliding_window")
    return _with_windows(rope.rotations(settings), names, window)


def _write_qwen(fields: Mapping[str, Any]) -> Entries:
    kinds = layers_of(fields)
    window, names = widest(kinds), names_of(kinds)
    return {
        **rope.written(kinds[0].rope_base, kinds[0].rope_scaling),
        "use_sliding_window": window is not None,
        "sliding_window": window,
        **({} if window is None else {"max_window_layers": names.count(FULL)}),
        "layer_types": names,
    }


def _write_qwen_2_moe(fields: Mapping[str, Any]) -> Entries:
    entries = _write_qwen(fields)
    entries.pop("max_window_layers", None)  # of other layers; their names say it
    return {**entries, "sliding_window": entries["sliding_window"] or 0}


def _read_alternating(
    settings: Settings, *, absent: int = ABSENT, base: float = 10_000.0
) -> Fields:
    """Read Gemma 2's window, of every other layer from the first on."""
    window = settings.take("sliding_window", None, absent=absent)
    names = named(settings, lambda i: FULL if i % 2 else SLIDING)
    return _with_windows(rope.rotations(settings, default=base), names, window)


def _read_gpt_oss(settings: Settings) -> Fields:
    """Read such a window; rotations, which are scaled where no entry says so, too."""
    if settings.take("rope_scaling", None) is None:
        settings.take("rope_parameters")
    return _read_alternating(settings, absent=128, base=150_000.0)


def _write_alternating(fields: Mapping[str, Any]) -> Entries:
    kinds = layers_of(fields)
    return {
        **rope.written(kinds[0].rope_base, kinds[0].rope_scaling),
        "sliding_window": widest(kinds),
        "layer_types": names_of(kinds),
    }


def _read_two_bases(settings: Settings) -> Fields:
    """Read Gemma 3's window, of all but each sixth layer, with rotations of its own."""
    window = settings.take("sliding_window", None, absent=ABSENT)
    every = settings.take("sliding_window_pattern", 6)
    names = named(settings, lambda i: SLIDING if (i + 1) % every else FULL)
    parameters = settings.take("rope_parameters", {})
    if {FULL, SLIDING} & set(parameters):
        of_name = {
            name: rope.rotations(
                Settings(settings.file, {"rope_parameters": parameters.get(name, {})}),
                default=base,
            )
            for name, base in _BASES.items()
        }
    else:  # older files
        local = settings.take("rope_local_base_freq", _BASES[SLIDING])
        of_name = {
            FULL: rope.rotations(settings, default=_BASES[FULL]),
            SLIDING: {"rope_base": float(local)},
        }
    windows = {FULL: None, SLIDING: window}
    return of_layers(
        tuple(LayerAttention(window=windows[name], **of_name[name]) for name in names)
    )


def _write_two_bases(fields: Mapping[str, Any]) -> Entries:
    kinds = layers_of(fields)
    names = names_of(kinds)
    of_name = {n: LayerAttention(rope_base=base) for n, base in _BASES.items()}
    of_name |= dict(zip(names, kinds, strict=True))
    return {
        "rope_parameters": {
            name: rope.written(kind.rope_base, kind.rope_scaling)["rope_parameters"]
            for name, kind in of_name.items()
        },
        "sliding_window": widest(kinds),
        "layer_types": names,
    }


def _read_some_rotary(settings: Settings) -> Fields:
    """Read SmolLM3's layers, every fourth without rotations."""
    count = settings.take("num_hidden_layers")
    every = settings.take("no_rope_layer_interval", 4)
    rotary = settings.take("no_rope_layers", [(i + 1) % every for i in range(count)])
    window = _read_switched(settings)["attention_window"]
    if len(rotary) < count:
        settings.refuse("no_rope_layers", rotary, "it must hold one number a layer")
    names = named(settings, lambda i: FULL if window is None or rotary[i] else SLIDING)
    rotations = rope.rotations(settings, default=2_000_000.0)
    windows = {FULL: None, SLIDING: window}
    return of_layers(
        tuple(
            LayerAttention(window=windows[name], **rotations)
            if is_rotary
            else LayerAttention(window=windows[name], rotary=False)
            for name, is_rotary in zip(names, rotary, strict=False)
        )
    )


def _write_some_rotary(fields: Mapping[str, Any]) -> Entries:
    kinds = layers_of(fields)
    rotated = next((kind for kind in kinds if kind.rotary), kinds[0])
    window = widest(kinds)
    return {
        **rope.written(rotated.rope_base, rotated.rope_scaling),
        "no_rope_layers": [int(kind.rotary) for kind in kinds],
        "use_sliding_window": window is not None,
        "sliding_window": window,
        "layer_types": names_of(kinds),
    }


def _with_windows(
    rotations: Fields, names: Sequence[str], window: int | None
) -> Fields:
    kind = functools.partial(LayerAttention, **rotations)
    return of_layers(
        tuple(kind(window=window if name == SLIDING else None) for name in names)
    )


SWITCHED = Part(_read_switched, _write_switched)
QWEN = Part(_read_qwen, _write_qwen)
"""With rotations, as those that follow."""
QWEN_2_MOE = Part(_read_qwen_2_moe, _write_qwen_2_moe)
ALTERNATING = Part(_read_alternating, _write_alternating)
GPT_OSS = Part(_read_gpt_oss, _write_alternating)
TWO_BASES = Part(_read_two_bases, _write_two_bases)
SOME_ROTARY = Part(_read_some_rotary, _write_some_rotary)
