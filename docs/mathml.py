"""Formulas of docstrings as MathML, which browsers draw without a script or a font.

A docstring writes `1/V Σ_v (s_v - t_v)²` in a code span: Unicode, with `_` and `^` for
what stands low and high, and braces for what belongs together. Here that line becomes
elements; every character of it but those marks is in them, in order.
"""

import html
import re

_SYMBOL = re.compile(
    r"[Σ√²³‖Πα-ωΔ∂∝≤≥∈≠±·ᵀ←∞∇∩∪]|[A-Za-z0-9)}]\^|_\{|[ (][a-zA-Z]_[a-z]\b"
)
_CODE = re.compile(r"['\"]|(?<!E)\[|\w\.\w|\w=\S|::|->|--|\w\w_\w\w")
_SPAN = re.compile(r"(<pre\b.*?</pre>)|<code>([^<]*)</code>", re.DOTALL)
_TOKEN = re.compile(
    r"\s+|\d+(?:\.\d+)?|[A-Za-z]+|[²³ᵀ]|(?:[^\W\d_]|')[\u0300-\u036f]*|\S"
)
_SPACE = '<mspace width="0.22em"></mspace>'
_BINARY = tuple("+-=·/≤≥≠∝←∈‖±<>,)}")
_RAISED = {"²": "2", "³": "3", "ᵀ": "ᵀ"}


def in_page(page: str) -> str:
    """Return HTML whose code spans that hold a formula are MathML."""

    def span(match: re.Match[str]) -> str:
        formula = html.unescape(match[2] or "")
        return convert(formula) if match[2] and is_formula(formula) else match[0]

    return _SPAN.sub(span, page)


def is_formula(text: str) -> bool:
    """Return whether a code span is mathematics rather than code."""
    return bool(_SYMBOL.search(text)) and not _CODE.search(text)


def convert(formula: str) -> str:
    """Return a formula as a `math` element.

    Raises:
      ValueError: braces or parentheses of a script do not close.
    """
    tokens = _TOKEN.findall(formula)
    return f"<math>{_row(_Reader(tokens))}</math>"


class _Reader:
    """Tokens, one ahead."""

    def __init__(self, tokens: list[str]):
        self._tokens, self._at = tokens, 0

    @property
    def next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def take(self) -> str:
        token = self.next
        self._at += 1
        return token


def _row(reader: _Reader, until: str = "") -> str:
    """Return elements up to a closing token, which is taken too."""
    parts = []
    while reader.next and reader.next != until:
        if reader.next.isspace():  # operators have spaces of their own
            reader.take()
            if (
                parts
                and not parts[-1].endswith("</mo>")
                and reader.next[:1] not in _BINARY
            ):
                parts.append(_SPACE)
            continue
        parts.append(_scripted(reader))
        # A quotient of two short things is a fraction.
        if reader.next == "/" and _is_short(parts[-1]):
            reader.take()
            below = _scripted(reader) if reader.next else "<mi></mi>"
            if _is_short(below):
                parts[-1] = f"<mfrac>{parts[-1]}{below}</mfrac>"
            else:
                parts += ["<mo>/</mo>", below]
    if until and reader.take() != until:
        raise ValueError(f"no {until!r} closes the formula")
    return "".join(parts)


def _is_short(element: str) -> bool:
    short = r"<m([in])>[^<]{1,2}</m\1>|<msup>.{1,60}</msup>"
    return re.fullmatch(short, element) is not None


def _scripted(reader: _Reader) -> str:
    """Return an atom with what stands below and above it."""
    base, low, high = _atom(reader), "", ""
    while reader.next and reader.next in "_^²³ᵀ":
        mark = reader.take()
        if mark == "_":
            low += _script(reader)
        elif mark == "^":
            high += _script(reader)
        else:
            high += _leaf(_RAISED[mark])
    if low and high:
        return f"<msubsup>{base}<mrow>{low}</mrow><mrow>{high}</mrow></msubsup>"
    if low:
        return f"<msub>{base}<mrow>{low}</mrow></msub>"
    return f"<msup>{base}<mrow>{high}</mrow></msup>" if high else base


def _script(reader: _Reader) -> str:
    token = reader.take()
    if token == "{":
        return _row(reader, "}")
    if token == "(":
        return f"<mo>(</mo>{_row(reader, ')')}<mo>)</mo>"
    # `s_ij` has two indices, `l_before` a word.
    one_each = token.isalpha() and len(token) == 2
    return "".join(map(_leaf, token)) if one_each else _leaf(token)


def _atom(reader: _Reader) -> str:
    token = reader.take()
    if token == "√":
        return f"<mrow><mo>√</mo>{_scripted(reader)}</mrow>"
    if token == "(":
        return f"<mrow><mo>(</mo>{_row(reader, ')')}<mo>)</mo></mrow>"
    return _leaf(token)


def _leaf(token: str) -> str:
    text = html.escape(token).replace("-", "−")
    if re.fullmatch(r"\d+(\.\d+)?", token):
        return f"<mn>{text}</mn>"
    if token[:1].isalpha() and token not in "ΣΠ":
        return f"<mi>{text}</mi>"
    return f"<mo>{text}</mo>"
