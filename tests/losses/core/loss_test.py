"""Contracts of `Loss`: abstract or final, and what is declared about tiles."""

import dataclasses

import jax.numpy as jnp
import pytest
from flax import nnx

import losses
from losses.core.term_values import per_token
from losses.core.vocab_sums import SumRequests, TiledOutputs


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
