"""Values and gradients of TRL 0.19.1: `tests/parity/preference.py` made `trl.json`."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from losses import functional as F

TRL = json.loads((Path(__file__).parent / "trl.json").read_text())


def kto(chosen, rejected, reference_chosen, reference_rejected):
    desirable = jnp.repeat(jnp.array([1.0, 0.0]), len(chosen))
    gap = jnp.mean(rejected + 3.0 - reference_rejected)
    return F.kto(
        jnp.concatenate([chosen, rejected]),
        jnp.concatenate([reference_chosen, reference_rejected]),
        desirable,
        jnp.maximum(gap, 0.0),
        undesirable_weight=1.5,
    )


CASES = {
    "dpo": ("sums", F.dpo),
    "cdpo": ("sums", lambda *x: F.dpo(*x, beta=0.3, label_smoothing=0.1)),
    "delta": ("means", lambda *x: F.dpo(*x, beta=5.0)),
    "ipo": ("means", F.ipo),
    "hinge_dpo": ("sums", F.hinge_dpo),
    "simpo": ("means", lambda w, l, *_: F.simpo(w, l)),  # noqa: E741 - as written
    "odds_ratio": ("means", lambda w, l, *_: F.odds_ratio(w, l)),  # noqa: E741
    "kto": ("sums", kto),
}


def test_every_case_is_tried():
    assert TRL["trl"] == "0.19.1" and set(TRL["cases"]) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_trl(name):
    arrays, function = CASES[name]
    chosen, rejected, *reference = (jnp.float32(x) for x in TRL[arrays].values())

    def total(chosen, rejected):
        values = function(chosen, rejected, *reference)
        return jnp.sum(values), values

    grads, values = jax.grad(total, (0, 1), has_aux=True)(chosen, rejected)
    expected = TRL["cases"][name]
    np.testing.assert_allclose(values, expected["values"], rtol=2e-5, atol=1e-6)
    for side, grad in zip(("chosen", "rejected"), grads, strict=True):
        np.testing.assert_allclose(grad, expected[side], rtol=2e-5, atol=1e-6)
