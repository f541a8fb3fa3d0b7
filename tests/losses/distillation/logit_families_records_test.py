"""What the families of logit distillation make of stored teacher outputs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import losses

TOKENS, VOCABULARY = 5, 8
FULL = losses.RecordSpec(mode="full", temperatures=())
BEST = losses.RecordSpec(mode="top_k", temperatures=(1.0, 2.0))
DRAWS = losses.RecordSpec(mode="sampled", temperatures=(1.0, 2.0))


def arrays(seed=0):
    """Logits of teacher and student, and targets."""
    draw = np.random.default_rng(seed)
    t, s = draw.normal(size=(2, TOKENS, VOCABULARY), scale=2).astype(np.float32)
    return t, s, draw.integers(0, VOCABULARY, TOKENS).astype(np.int32)


def outputs(k=None, of=None):
    t, s, targets = (jnp.asarray(x) for x in of or arrays())
    teacher = losses.TeacherOutputs(logits=t)
    if k is not None:
        best, indices = jax.lax.top_k(t, k)
        teacher = losses.TeacherOutputs(
            indices=indices,
            logits=best - best[..., :1],
            log_normalizers={
                T: jax.nn.logsumexp((t - best[..., :1]) / T, -1) for T in (1.0, 2.0)
            },
        )
    return losses.FullOutputs(batch={"targets": targets}, logits=s, teacher=teacher)


@functools.cache
def value(loss, k=None):
    """The loss of the whole row, or of its `k` best entries."""
    return np.asarray(jax.jit(lambda *of: loss(outputs(k, of)))(*arrays()))


LABEL_FREE = {
    "decoupled": losses.DecoupledKD(temperature=2.0, target="teacher"),
    "normalised": losses.NormalizedKD(temperature=2.0, target="teacher"),
    "plackett_luce": losses.PlackettLuce(temperature=2.0, target="teacher"),
}
label_free = pytest.mark.parametrize("loss", LABEL_FREE.values(), ids=LABEL_FREE)


@label_free
def test_the_teachers_choice_stands_for_the_label(loss):
    fields = {k: v for k, v in vars(loss).items() if k != "target"}
    of_label = type(loss)(**fields)

    @jax.jit
    def both(t, s, targets):
        choice = jnp.argmax(t, axis=-1).astype(jnp.int32)
        return loss(outputs(of=(t, s, targets))), of_label(outputs(of=(t, s, choice)))

    np.testing.assert_array_equal(*both(*arrays()))


@label_free
def test_all_entries_stored_are_the_whole_row(loss):
    np.testing.assert_allclose(
        value(loss, VOCABULARY), value(loss), rtol=2e-3, atol=1e-4
    )


@label_free
def test_stored_entries_never_say_more_than_the_row(loss):
    """Merging the others into a bucket loses, as does ending the ranking early."""
    whole = value(loss)
    before = np.full(TOKENS, -np.inf)
    for k in (2, 4, 6):
        actual = value(loss, k)
        if not isinstance(loss, losses.NormalizedKD):  # its entropies move as well
            assert np.all(actual <= whole + 1e-5)
            assert np.all(actual >= before - 1e-5)
        before = actual


def test_the_target_part_of_stored_entries_is_exact():
    for loss in (
        losses.DecoupledKD(non_target_weight=0.0, target="teacher"),
        losses.NormalizedKD(non_target_weight=0.0, target="teacher"),
    ):
        np.testing.assert_allclose(value(loss, 2), value(loss), rtol=1e-5)


def test_a_ranking_of_stored_entries_ends_with_them():
    """Two steps of the whole, in float64."""
    t, s = (x.astype(np.float64) for x in arrays()[:2])
    actual = value(losses.PlackettLuce(target="teacher"), 2)
    for at in range(TOKENS):
        first, second = np.argsort(-t[at])[:2]
        p = np.exp(t[at]) / np.exp(t[at]).sum()
        left = np.exp(s[at]).sum()
        expected = p[first] * (np.log(left) - s[at][first])
        expected += p[second] * (np.log(left - np.exp(s[at][first])) - s[at][second])
        np.testing.assert_allclose(actual[at], expected, rtol=1e-5)


@label_free
def test_labels_want_whole_rows(loss):
    loss.check_records(BEST)
    loss.check_records(FULL)
    kind = type(loss)
    kind().check_records(FULL)
    wanted = rf"{kind.__name__}\(target='label'\) wants the teacher's"
    with pytest.raises(ValueError, match=wanted + " probability of every target"):
        kind().check_records(BEST)
    with pytest.raises(ValueError, match=wanted + " whole logits"):
        kind()(outputs(3))
    with pytest.raises(ValueError, match="cannot be estimated from draws"):
        kind(target="teacher").check_records(DRAWS)


@pytest.mark.parametrize("kind", [losses.NormalizedKD, losses.PlackettLuce])
def test_both_temperatures_must_be_stored(kind):
    hot = losses.RecordSpec(mode="top_k", temperatures=(2.0,))
    with pytest.raises(ValueError, match=r"wants temperature 1\.0, .* stored: 2\.0"):
        kind(temperature=2.0, target="teacher").check_records(hot)
    losses.DecoupledKD(temperature=2.0, target="teacher").check_records(hot)


STANDARDISED = losses.Standardized(loss=losses.ForwardKL())
WHOLE_ONLY = {
    STANDARDISED: "Standardized wants the mean and variance",
    losses.InterClassCorrelation(): "InterClassCorrelation correlates whole",
    losses.IntraClassCorrelation(): "IntraClassCorrelation correlates whole",
}


@pytest.mark.parametrize(("loss", "message"), WHOLE_ONLY.items(), ids=repr)
def test_what_wants_whole_rows_reads_whole_records_alone(loss, message):
    loss.check_records(FULL)
    for stored, held in ((BEST, "the best entries"), (DRAWS, "draws")):
        with pytest.raises(ValueError, match=rf"{message}.*, and the records .*{held}"):
            loss.check_records(stored)
    read = loss.statistics if isinstance(loss, losses.OfMeans) else loss
    with pytest.raises(ValueError, match="wants the teacher's whole logits"):
        read(outputs(3))


@pytest.mark.parametrize("kind", [losses.BinaryKL, losses.BinaryKLNorm])
@pytest.mark.parametrize("stored", [FULL, BEST, DRAWS], ids=lambda s: s.mode)
def test_yes_or_no_wants_an_online_teacher(kind, stored):
    with pytest.raises(ValueError, match=f"^{kind.__name__} compares logits themsel"):
        kind().check_records(stored)


def test_a_level_that_records_leave_open_changes_nothing_standardised():
    t, s, targets = arrays()
    of = jax.jit(lambda *of: STANDARDISED(outputs(of=of)))
    np.testing.assert_allclose(of(t - 7.0, s, targets), of(t, s, targets), rtol=1e-4)


def own(**fields):
    options = {"loss": losses.ForwardKL(), "dim": 4, "num_outputs": 8} | fields
    return losses.OwnHead(**options, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: losses.DecoupledKD(target="labels"),
            "target must be one of 'label', 'teacher', got 'labels'; nearest: 'label'",
        ),
        (
            lambda: losses.DecoupledKD(target_weight=-1.0),
            "target_weight must be at least 0, got -1.0",
        ),
        (
            lambda: losses.NormalizedKD(non_target_weight=float("nan")),
            "non_target_weight must be at least 0, got nan",
        ),
        (
            lambda: losses.PlackettLuce(sparse="truncate"),
            "sparse of PlackettLuce must be one of 'tail_bucket', "
            "'renormalize_both', got 'truncate'",
        ),
        (
            lambda: losses.BinaryKL(temperature=0.0),
            "temperature must be positive, got 0.0",
        ),
        (
            lambda: losses.Standardized(loss=losses.ForwardKL(), ddof=2),
            "ddof must be 0 or 1, got 2",
        ),
        (
            lambda: losses.Standardized(loss=losses.ForwardKL(), epsilon=0.0),
            "epsilon must be positive, got 0.0",
        ),
        (
            lambda: losses.Standardized(loss=losses.RouterZLoss()),
            "loss of Standardized must read logits, and RouterZLoss does not",
        ),
        (
            lambda: losses.InterClassCorrelation(epsilon=-1.0),
            "epsilon must be positive, got -1.0",
        ),
        (
            lambda: own(loss=losses.IntraClassCorrelation()),
            "loss of OwnHead must see each token by itself, and IntraClassCorrelation "
            "wants means over the batch",
        ),
        (
            lambda: own(loss=losses.ForwardKL),
            "loss of OwnHead must be a loss that is made, got",
        ),
        (lambda: own(dim=0), "dim must be positive, got 0"),
        (
            lambda: own().logits(jnp.zeros((2, 5))),
            r"OwnHead\(dim=4\) reads hidden states of width 5",
        ),
    ],
)
def test_parameters_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()
