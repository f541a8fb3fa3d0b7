"""Texts from files on a terminal, which would obey the control characters in them."""

import re

# All but line feeds, tabs, and colors, as a progress line has them.
_CONTROLS = re.compile(r"\x1b\[[0-9;]*m|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    r"""Return a text with control characters written out, as in `\x1b[2J`."""
    return _CONTROLS.sub(_written_out, text)


def _written_out(match: re.Match[str]) -> str:
    whole = match[0]
    return whole if len(whole) > 1 else repr(whole)[1:-1]
