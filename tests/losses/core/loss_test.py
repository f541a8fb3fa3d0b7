"""Contracts of `Loss`: abstract or final, and what is declared about tiles."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import losses
from losses.core.term_values import evaluate, per_token
from losses.core.vocab_sums import SumRequests, TiledOutputs
from losses.weighting.weights import weight_at_step


@dataclasses.dataclass(frozen=True)
class Base(losses.Loss, abstract=True):
    temperature: float = 1.0


class Concrete(Base):
    def __call__(self, outputs):
        return outputs.log_normalizer(self.temperature)


@pytest.mark.parametrize(
    ("bases", "method"),
    [
        ((losses.Loss,), "__call__"),
        ((losses.Loss, nnx.Module), "__call__"),
        ((nnx.Module, losses.Loss), "__call__"),
        ((Base,), "__call__"),
        ((losses.OfMeans,), "of_means"),
    ],
)
def test_a_loss_that_leaves_a_method_undefined_is_refused_at_definition(bases, method):
    with pytest.raises(TypeError, match=f"Focal must define {method}; a base of"):
        type(bases[-1])("Focal", bases, {})


@pytest.mark.parametrize("kind", [losses.Loss, losses.OfMeans, Base])
def test_abstract_losses_cannot_be_instantiated(kind):
    with pytest.raises(TypeError, match="Can't instantiate abstract class"):
        kind()


def test_a_loss_derived_from_an_abstract_one_can_be_instantiated():
    assert Concrete(temperature=2.0).temperature == 2.0


def test_token_weights_that_leave_call_undefined_cannot_be_instantiated():
    kind = type("Nothing", (losses.TokenWeight,), {})
    with pytest.raises(TypeError, match="__call__"):
        kind()


class ByRows(losses.Loss):
    needs = frozenset({"logits"})

    def __call__(self, outputs):
        return jnp.max(outputs.logits, axis=-1)


class DeclaredByRows(Concrete):
    tiled = False


class FalselyTiled(ByRows):
    tiled = True


class OfRows(losses.CrossEntropy):
    def __call__(self, outputs):
        return jnp.max(outputs.logits, axis=-1)


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        # What its base declares of another form says nothing of this one.
        (OfRows(), losses.NeedsFullLogits, None),
        (ByRows(), losses.NeedsFullLogits, None),
        (DeclaredByRows(), losses.NeedsFullLogits, None),
        (FalselyTiled(), losses.IncompatibleLoss, "declares tiled = True and reads"),
    ],
)
def test_rows_are_asked_for_when_a_loss_reads_or_declares_them(loss, error, message):
    outputs = TiledOutputs(
        batch={"targets": jnp.zeros(3, jnp.int32)},
        sums=SumRequests((3,)),
        vocabulary=7,
    )
    term = losses.LossTerm(name="term", loss=loss)
    with pytest.raises(error, match=message):
        per_token([term], outputs, masks={"term": jnp.ones(3, bool)}, statistics={})


class Returns(losses.Loss):
    """A loss, or the weights of its tokens, of any shape and dtype."""

    def __init__(self, values):
        self.values = values

    def __call__(self, outputs):
        return self.values


def one_term(loss, **fields):
    return losses.LossTerm(name="mine", loss=loss, **fields)


def inputs(logits):
    ones = jnp.ones(logits.shape[:-1], jnp.int32)
    batch = {"targets": ones, "mask": ones.astype(bool), "segment_ids": ones}
    return losses.FullOutputs(batch=batch, logits=logits)


@pytest.mark.parametrize(
    ("values", "actual"),
    [
        (jnp.zeros((3, 1)), r"float32 \[3, 1\]"),
        (jnp.zeros(()), r"float32 \[\]"),
        (jnp.zeros(3, jnp.int32), r"int32 \[3\]"),
        (jnp.zeros(3, bool), r"bool \[3\]"),
    ],
)
def test_values_and_weights_that_are_not_one_float_a_token_are_refused(values, actual):
    outputs = inputs(jnp.zeros((3, 5)))
    wanted = rf"term 'mine' must return one float a token, \[3\]; got {actual}"
    with pytest.raises(losses.IncompatibleLoss, match=f"^Returns of {wanted}"):
        evaluate([one_term(Returns(values))], outputs)
    term = one_term(losses.ZLoss(), token_weight=lambda _: values)
    with pytest.raises(losses.IncompatibleLoss, match=f"^token_weight of {wanted}"):
        evaluate([term], outputs)


@pytest.mark.parametrize("value", [jnp.zeros(3), True, 1j])
def test_a_weight_that_is_not_one_number_a_step_is_refused(value):
    wanted = r"^weight of 'mine' must give one number a step, got \w+ \["
    with pytest.raises(losses.IncompatibleLoss, match=wanted):
        weight_at_step(lambda step: value, jnp.int32(0), "mine")


def test_logits_of_fewer_bits_are_evaluated_in_float32():
    logits = np.random.default_rng(0).normal(size=(2000, 50), scale=4.0)
    logits = jnp.asarray(logits, jnp.bfloat16)
    exact = np.asarray(logits, np.float64)
    log_z = np.log(np.exp(exact).sum(-1))
    terms = [one_term(losses.CrossEntropy())]
    average = jax.jit(lambda x: evaluate(terms, inputs(x)))(logits)["mine"]
    expected = np.mean(log_z - exact[:, 1])
    np.testing.assert_allclose(average.total / average.count, expected, rtol=1e-6)


READ_TARGETS = {
    "ce": losses.CrossEntropy(),
    "smoothed": losses.SmoothedCrossEntropy(),
    "decoupled": losses.DecoupledKD(),
    "normalized": losses.NormalizedKD(),
    "ranking": losses.PlackettLuce(),
}
READ_NONE = {"z": losses.ZLoss(), "kl": losses.ForwardKL()}


def sums_of(kinds, logits, teacher, targets, mask):
    """Sums of the terms of some losses, and the gradient of them all."""
    terms = [losses.LossTerm(name=name, loss=loss) for name, loss in kinds.items()]

    def total(logits):
        batch = {"targets": targets, "mask": mask, "segment_ids": jnp.ones_like(mask)}
        results = evaluate(
            terms, losses.FullOutputs(batch=batch, logits=logits, teacher=teacher)
        )
        sums = {name: average.total for name, average in results.items()}
        return sum(sums.values()), sums

    return jax.grad(total, has_aux=True)(logits)


@pytest.mark.parametrize("target", [-100, -1, 5, 2**30])
def test_a_target_outside_the_vocabulary_has_no_value_where_it_counts(target):
    sums = _sums_of_all()
    logits, targets = jnp.arange(15.0).reshape(3, 5) ** 0.5, jnp.array([target, 4, 0])
    grads, masked = sums(logits, targets, jnp.array([False, True, True]))
    assert np.isfinite(grads).all() and np.isfinite(list(masked.values())).all()
    others = sums(logits, targets.at[0].set(2), jnp.array([False, True, True]))
    jax.tree.map(np.testing.assert_array_equal, others, (grads, masked))
    _, counted = sums(logits, targets, jnp.array([True, True, False]))
    wrong = {name for name, value in counted.items() if np.isnan(value)}
    assert wrong == {*READ_TARGETS, "residual"}


@functools.cache
def _sums_of_all():
    rest = {"residual": losses.TotalVariation(sparse="residual_to_target")}
    best = losses.TeacherOutputs(
        indices=jnp.array([[2, 1]] * 3),
        logits=jnp.array([[1.0, 0.5]] * 3),
        log_normalizers={1.0: jnp.full(3, 2.0)},
    )
    whole = losses.TeacherOutputs(logits=jnp.sin(jnp.arange(15.0)).reshape(3, 5))

    @jax.jit
    def all_sums(logits, targets, mask):
        of_whole = sums_of(READ_TARGETS | READ_NONE, logits, whole, targets, mask)
        of_best = sums_of(rest, logits, best, targets, mask)
        return of_whole[0] + of_best[0], of_whole[1] | of_best[1]

    return all_sums


def test_a_target_outside_the_vocabulary_is_named():
    outputs = inputs(jnp.zeros((3, 5)))
    batch = {**outputs.batch, "targets": jnp.array([4, 1, -100])}
    outputs = dataclasses.replace(outputs, batch=batch)
    evaluate([one_term(losses.ZLoss())], outputs)
    message = r"^'mine' counts target -100 at \[2\], .* vocabulary, 0 to 4; mask"
    with pytest.raises(losses.IncompatibleLoss, match=message):
        evaluate([one_term(losses.CrossEntropy())], outputs)


@pytest.mark.parametrize("form", ["rows", "tiles"])
def test_an_id_outside_the_vocabulary_has_no_logit(form):
    ids = jnp.array([[0, -1, 5]])
    if form == "rows":
        logits = inputs(jnp.ones((1, 5))).logits_at(ids)
    else:
        tiled = TiledOutputs(batch={}, sums=SumRequests((1,)), vocabulary=5)
        logits = tiled.logits_at(ids)
    np.testing.assert_array_equal(np.isnan(logits), [[False, True, True]])
