"""Awkward logits through recording and reading, against float64.

python -m pytest -m slow tests/runner/records/hunt_test.py
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import losses
from runner.recording.modes import Full, Sampled, TopK
from runner.records import checks
from runner.records.format import Layout, encode_batch, stack
from runner.records.reader import arrays
from runner.teachers.offline import unpacked
from tests.losses.reference import log_sum_exp
from tests.runner.records import sets

pytestmark = pytest.mark.slow

ROWS, LENGTH = 2, 6
MODES = [
    (TopK(1), (1.0,)),
    (TopK(5), (0.5, 1.0, 8.0)),
    (Sampled(9), (2.0,)),
    (Full(), ()),
]


def awkward(vocabulary):
    """Return logits `[ROWS LENGTH V]` float32 by kind."""
    random = np.random.default_rng(vocabulary)
    plain = random.normal(size=(ROWS, LENGTH, vocabulary))
    sure, impossible = 1.0 * plain, 2.0 * plain
    sure[..., random.integers(vocabulary)] += 45.0
    impossible[..., vocabulary // 2 :] = -np.inf
    kinds = {
        "plain": 3.0 * plain,
        "far": 30.0 * plain,
        "farther": 1e5 * plain,
        "tied": np.round(plain),
        "equal": 0.0 * plain + 7.0,
        "sure": sure,
        "impossible": impossible,
        "offset": plain + 3000.0,
        "bfloat16": np.float32(jnp.asarray(4.0 * plain, jnp.bfloat16)),
    }
    return {name: x.astype(np.float32) for name, x in kinds.items()}


@pytest.mark.parametrize("vocabulary", [5, 300, 2000])
@pytest.mark.parametrize(("mode", "temperatures"), MODES)
def test_what_is_read_is_what_was_said(mode, temperatures, vocabulary):
    random = np.random.default_rng(0)
    layout = Layout(
        mode=mode.name,
        entries=mode.entries(vocabulary),
        vocab_size=vocabulary,
        sequence_length=LENGTH,
        temperatures=temperatures,
    )

    @jax.jit
    def select(logits, uniform):
        best = jnp.max(logits, axis=-1, keepdims=True)
        return mode.select(logits - best, uniform, temperatures)

    for kind, logits in awkward(vocabulary).items():
        rows = sets.rows(random, count=ROWS, length=LENGTH, vocab=vocabulary)
        uniform = random.random((ROWS, LENGTH, mode.uniforms), np.float32)
        stored = {k: np.asarray(x) for k, x in select(logits, uniform).items()}
        records = encode_batch(layout, indices=range(ROWS), rows=rows, stored=stored)
        table = stack(layout, records)
        assert not checks.first_fault(layout, table, rows["targets"], rows["mask"])
        batch = {name: jnp.asarray(x) for name, x in arrays(table).items()}
        spec = losses.RecordSpec(mode=mode.name, temperatures=temperatures)
        hold(unpacked(batch, spec), logits, temperatures, f"{kind} {mode}")


def hold(teacher, logits, temperatures, name):
    """Hold a teacher's stored outputs to its logits, in float64."""
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    step = 1.2e-7 * np.max(np.abs(logits[np.isfinite(logits)]))  # of their float32
    ids = None if teacher.indices is None else np.asarray(teacher.indices)
    if teacher.logits is not None:
        exact = -np.sort(-wide, -1)[..., : teacher.logits.shape[-1]]
        exact = wide if ids is None else exact
        close(teacher.logits, exact, 2.0**-12, 2.0**-12 * 1.01, step, name)
    for temperature in temperatures:
        scores = wide / temperature
        log_z = log_sum_exp(scores)
        close(teacher.log_normalizers[temperature], log_z, 3e-6, 0.0, 0.0, name)
        if temperature in teacher.log_rests:
            np.put_along_axis(scores, ids, -np.inf, axis=-1)
            rest = np.maximum(log_sum_exp(scores), -1e30)
            rest = np.where(rest < -112.0, -np.inf, rest)
            noise = step / temperature
            close(teacher.log_rests[temperature], rest, 2e-5, 8e-7, noise, name)
        if temperature in teacher.entropies:
            log_p = scores - log_z[..., None]
            terms = np.exp(log_p) * np.where(np.isfinite(log_p), log_p, 0.0)
            entropy = -terms.sum(-1)
            close(teacher.entropies[temperature], entropy, 1e-4, 0.0, 0.0, name)
            assert np.take_along_axis(log_p, ids, -1).min() > -30.0, name


def close(actual, exact, absolute, relative, noise, name):
    """Hold numbers to others within a step, or a share of them; -inf to -inf."""
    actual = np.asarray(actual, np.float64)
    np.testing.assert_array_equal(actual == -np.inf, exact == -np.inf, err_msg=name)
    finite = np.isfinite(exact) & (exact > -1e6)
    actual, exact = actual[finite], exact[finite]
    within = np.maximum(absolute, relative * np.abs(exact)) + noise
    assert np.all(np.abs(actual - exact) <= within), name
