"""The parts of Qwen's attention window: with a switch, and by layers."""

from collections.abc import Mapping
from typing import Any

from models.pretrained.entries.part import Entries, Fields, Part
from models.pretrained.entries.settings import Settings

_FULL_LAYERS = 28  # `max_window_layers`, where the file names none
_FULL, _SLIDING = "full_attention", "sliding_attention"
ABSENT = 4096
"""The window where a file has no such entry; null is no window."""


def _read_switched(settings: Settings) -> Fields:
    """Read a window that is off unless `use_sliding_window`."""
    window = settings.take("sliding_window", None, absent=ABSENT)
    enabled = settings.take("use_sliding_window", False)
    return {"attention_window": window if enabled else None}


def _write_switched(fields: Mapping[str, Any]) -> Entries:
    window = fields["attention_window"]
    return {"use_sliding_window": window is not None, "sliding_window": window}


def _read_layered(settings: Settings) -> Fields:
    """Read a window of layers from `max_window_layers` on, or of `layer_types`."""
    window = _read_switched(settings)["attention_window"]
    layers = settings.take("num_hidden_layers")
    first = settings.take("max_window_layers", _FULL_LAYERS)
    kinds = settings.take("layer_types", [])
    if not kinds and window is not None:
        first = min(first, layers)
        kinds = [_FULL] * first + [_SLIDING] * (layers - first)
    if set(kinds) <= {_FULL}:
        return {"attention_window": None}
    if set(kinds) != {_SLIDING} or window is None:
        settings.refuse(
            "layer_types",
            kinds,
            f"they must all be {_FULL!r}, or all {_SLIDING!r} with a sliding_window",
        )
    return {"attention_window": window}


def _write_layered(fields: Mapping[str, Any]) -> Entries:
    full = fields["attention_window"] is None
    return {
        **_write_switched(fields),
        **({} if full else {"max_window_layers": 0}),
        "layer_types": [_FULL if full else _SLIDING] * fields["num_layers"],
    }


SWITCHED = Part(_read_switched, _write_switched)
LAYERED = Part(_read_layered, _write_layered)
