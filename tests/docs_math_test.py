"""Formulas of docstrings as MathML: the same characters, drawn."""

import re
from collections import Counter
from xml.etree import ElementTree

import pytest

from docs import mathml
from tests.architecture.imports import sources

SPANS = {
    span
    for path in sources("losses", "models", "runner")
    for span in re.findall(r"`([^`\n]+)`", path.read_text())
}
FORMULAS = sorted(filter(mathml.is_formula, SPANS))


def characters(text):
    """What a reader sees: no marks of scripts, no spaces, a fraction's bar or slash."""
    plain = text.replace("²", "2").replace("³", "3").replace("−", "-")
    return Counter(re.sub(r"[\s_^{}/]", "", plain))


def test_every_formula_is_drawn_with_all_its_characters():
    assert len(FORMULAS) > 200
    for formula in FORMULAS:
        drawn = ElementTree.fromstring(mathml.convert(formula))
        assert characters("".join(drawn.itertext())) == characters(formula), formula


def test_what_is_written_with_the_signs_of_mathematics_is_no_code():
    """All but a function of ours."""
    left = {s for s in SPANS - set(FORMULAS) if re.search(r"[Σ√‖∂∇]|\w²|_\{", s)}
    assert left <= {
        "Σ_blocks metric_sums(outputs, masks)",
        "Σ_blocks metric_sums(outputs)",
    }
    for code in ("losses.ForwardKL", "loop.log_every=50", "[*b v]", "a ^ b", "x_axis"):
        assert not mathml.is_formula(code), code


@pytest.mark.parametrize(
    ("formula", "drawn"),
    [
        ("x²", "<msup><mi>x</mi><mrow><mn>2</mn></mrow></msup>"),
        ("1/V s", "<mfrac><mn>1</mn><mi>V</mi></mfrac>SPACE<mi>s</mi>"),
        ("s_ij", "<msub><mi>s</mi><mrow><mi>i</mi><mi>j</mi></mrow></msub>"),
        (
            "Σ_{i≠y} p",
            "<msub><mo>Σ</mo><mrow><mi>i</mi><mo>≠</mo><mi>y</mi></mrow></msub>SPACE<mi>p</mi>",
        ),
        ("log q < 0", "<mi>log</mi>SPACE<mi>q</mi><mo>&lt;</mo><mn>0</mn>"),
    ],
)
def test_scripts_fractions_and_spaces(formula, drawn):
    assert mathml.convert(formula) == f"<math>{drawn}</math>".replace(
        "SPACE", mathml._SPACE
    )


def test_only_spans_of_formulas_change_in_a_page():
    before = "<pre><code>Σ_v p</code></pre><p><code>a.b</code> "
    drawn = mathml.in_page(f"{before}<code>p_v &lt; Σ_v q</code></p>")
    assert drawn.startswith(f"{before}<math>")
    assert "<code>p_v" not in drawn and "&lt;" in drawn
