"""The hook that writes a diagnosis, and the picture of it in the report."""

import io
import json

import numpy as np

from runner import report
from runner.evaluation.diagnostics import Diagnosis
from runner.train.actions.diagnose import diagnose
from runner.writers.terminal import Terminal
from tests.runner.train.contexts import context

INNER = np.array([[4.0, -1.0, 1.0], [-1.0, 1.0, 0.25], [1.0, 0.25, 1.0]])
DIAGNOSIS = Diagnosis(
    terms=("ce", "kd", "z_loss"),
    inner={"trunk": INNER, "head": np.abs(INNER)},
    scalars={"kl": 0.5},
    expert_load=np.array([[3.0, 5.0]]),
)


def diagnosed(**fields):
    """The writer and the terminal's text after steps 1 to 7."""
    stream = io.StringIO()
    run = context(diagnose=lambda state: DIAGNOSIS, terminal=Terminal(stream), **fields)
    hook = diagnose(run)
    for step in range(1, 8):
        hook(step, state=None)
    return run.writer, stream.getvalue()


def test_norms_cosines_and_conflicts_are_written_when_due():
    writer, text = diagnosed(diagnose_every=5)
    ((step, scalars),) = writer.scalars
    assert step == 5
    assert scalars["diagnostics/kl"] == 0.5
    assert scalars["diagnostics/trunk_gradient_norm/ce"] == 2.0
    assert scalars["diagnostics/trunk_cosine/ce/kd"] == -0.5
    assert scalars["diagnostics/head_cosine/kd/z_loss"] == 0.25
    assert text == "step 5  ce and kd pull apart in the trunk (cosine -0.50)\n"
    np.testing.assert_array_equal(
        writer.histograms["diagnostics/expert_load/0"], [3.0, 5.0]
    )


def test_no_period_no_diagnosis_not_even_at_the_end():
    writer, text = diagnosed(diagnose_every=0, num_steps=7)
    assert not writer.scalars and not text


def test_the_picture_is_blue_together_and_orange_apart():
    writer, _ = diagnosed(diagnose_every=5)
    image = writer.images["diagnostics/trunk_cosine"].astype(int)
    assert image.shape[-1] == 3
    height, width, _ = image.shape
    top, left = int(0.18 * height), int(0.24 * width)
    cell = (int(0.78 * height) // 3, int(0.72 * width) // 3)

    def color(i, j):
        corner = image[top + i * cell[0] + 12, left + j * cell[1] + 12]
        return corner[2] - corner[0]  # blue over red

    assert color(0, 0) > 50 and color(0, 1) < -20 and color(0, 2) > 10


def test_the_report_shows_the_last_diagnosis(tmp_path):
    rows = [
        {"step": step, "learning/ce": 1.0, "learning/kd": 1.0, "learning/z_loss": 1.0}
        | {"diagnostics/trunk_cosine/ce/kd": cosine, "diagnostics/kl": 0.1 * step}
        for step, cosine in [(1, 0.9), (2, -0.37)]
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    page = report.write(tmp_path).read_text()
    assert page.count("<h2>Diagnosis</h2>") == 1
    assert "gradients of the terms in the trunk" in page
    picture = (tmp_path / "report" / "diagnostics_trunk_cosine.svg").read_text()
    assert "-0.37" in picture.replace("\N{MINUS SIGN}", "-") and "0.9" not in picture
    assert "z_loss" not in picture


def test_terms_in_groups_keep_their_order_and_their_names(tmp_path):
    from runner.report.run import load

    (tmp_path / "config.txt").write_text(
        "losses: [ce, teacher]\nlosses.ce.weight: 0.5\n"
        "losses.teacher.terms: [kd, features]\n"
        "losses.teacher.terms.kd.loss: losses.ForwardKL\n"
    )
    run = load(tmp_path)
    assert run.terms == ["ce", "teacher", "kd", "features"]
    assert run.of_term("kd", "loss") == "losses.ForwardKL"
    assert run.of_term("ce", "weight") == "0.5"
