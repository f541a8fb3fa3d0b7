"""The action that writes a diagnosis, and the picture of it in the report."""

import json

import numpy as np

from runner import report
from runner.evaluation.diagnostics import Diagnosis
from runner.report import heat_map
from runner.train import actions
from runner.writers.base import PartialWriter
from runner.writers.stopwatch import Stopwatch

INNER = np.array([[4.0, -1.0, 1.0], [-1.0, 1.0, 0.25], [1.0, 0.25, 1.0]])
FOUND = Diagnosis(
    terms=("ce", "kd", "z_loss"),
    inner={"trunk": INNER, "head": np.abs(INNER)},
    scalars={"kl": 0.5},
    expert_load=np.array([[3.0, 5.0]]),
)


class Kept(PartialWriter):
    """What is written, by kind."""

    def __init__(self):
        self.scalars, self.images, self.histograms = {}, {}, {}

    def write_scalars(self, step, scalars):
        self.scalars |= {(step, name): value for name, value in scalars.items()}

    def write_images(self, step, images):
        self.images |= images

    def write_histograms(self, step, arrays, num_buckets=None):
        self.histograms |= arrays


def acted(writer, said, *, every=5):
    act = actions.Diagnose(
        lambda state: FOUND,
        writer=writer,
        draw=heat_map.pixels,
        say=said.append,
        every=every,
        stopwatch=Stopwatch(),
    )
    for step in range(1, 8):
        act(step, state=None)


def test_norms_cosines_and_conflicts_are_written_when_due():
    writer, said = Kept(), []
    acted(writer, said)
    assert {step for step, _ in writer.scalars} == {5}
    found = {name: value for (_, name), value in writer.scalars.items()}
    assert found["diagnostics/kl"] == 0.5
    assert found["diagnostics/trunk_gradient_norm/ce"] == 2.0
    assert found["diagnostics/trunk_cosine/ce/kd"] == -0.5
    assert found["diagnostics/head_cosine/kd/z_loss"] == 0.25
    assert said == ["step 5  ce and kd pull apart in the trunk (cosine -0.50)"]
    np.testing.assert_array_equal(
        writer.histograms["diagnostics/expert_load/0"], [3.0, 5.0]
    )


def test_the_picture_is_blue_together_and_orange_apart():
    writer = Kept()
    acted(writer, [])
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
