"""The state: made in its shardings, what it holds, how modules come back."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

import losses
from losses import LossTerm
from models import Transformer
from runner import optimizers, runtime
from runner.errors import UserError
from runner.head.head import Head
from runner.machine import mesh as mesh_lib
from runner.state.trainable import TrainModules
from tests.runner.states import placed_state

pytestmark = pytest.mark.own_initializer


class Projection(losses.Loss, nnx.Module):
    """A loss that owns a matrix."""

    def __init__(self, *, rngs):
        self.matrix = nnx.Param(jax.random.normal(rngs.params(), (3, 5)))

    def __call__(self, outputs):
        return outputs.target_logits() * jnp.sum(self.matrix[...])


TERMS = (
    LossTerm(name="ce", loss=losses.CrossEntropy()),
    LossTerm(name="projection", loss=Projection),
)


def make(**student):
    build = functools.partial(
        Transformer, vocab_size=64, dim=32, num_layers=1, num_heads=2, **student
    )
    return TrainModules(build, TERMS, optimizers.adamw(1e-3))


def create(modules):
    config = runtime.Mesh(data=1, fsdp=4, tensor=2)
    mesh = mesh_lib.make(config)
    return modules.create(0, mesh, config.rules), modules.abstract(mesh, config.rules)


def test_parameters_and_moments_are_born_in_their_shardings():
    state, _ = create(make())
    output = state.params["student"]["output"]
    assert output.sharding.spec == PartitionSpec("tensor", "fsdp")
    assert output.addressable_shards[0].data.size * 8 == output.size
    moments = optax.tree.get(state.opt_state, "mu")["student"]["output"]
    assert moments.sharding.spec == output.sharding.spec


def test_the_abstract_state_is_that_of_the_real_one():
    state, abstract = create(make())
    for real, shape in zip(
        jax.tree.leaves(state), jax.tree.leaves(abstract), strict=True
    ):
        assert (real.shape, real.dtype) == (shape.shape, shape.dtype)
        assert real.sharding.is_equivalent_to(shape.sharding, real.ndim)


def test_the_mesh_does_not_change_what_is_drawn():
    sharded, _ = create(make())
    alone = make().initial(jax.random.key(0))
    same = functools.partial(np.testing.assert_allclose, rtol=1e-6)
    jax.tree.map(same, sharded.params, alone.params)


def test_the_states_of_other_tests_are_those_of_create():
    modules, config = make(), runtime.Mesh(data=1, fsdp=4, tensor=2)
    mesh = mesh_lib.make(config)
    created = modules.create(0, mesh, config.rules)
    placed = placed_state(modules, 0, mesh, config.rules)
    for ours, theirs in zip(
        jax.tree.leaves(placed), jax.tree.leaves(created), strict=True
    ):
        assert ours.sharding.is_equivalent_to(theirs.sharding, theirs.ndim)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_a_loss_that_owns_parameters_is_trained_and_set_apart():
    modules = make()
    state, _ = create(modules)
    assert set(state.params) == {"student", "losses", "weights"}
    assert state.params["losses"]["projection"]["matrix"].shape == (3, 5)
    moments = optax.tree.get(state.opt_state, "mu")
    assert set(moments) == {"student", "losses", "weights"}
    terms = modules.terms(state.params["losses"], state.variables["losses"])
    projection = terms[1].loss
    assert isinstance(projection, Projection)
    np.testing.assert_array_equal(
        projection.matrix[...], state.params["losses"]["projection"]["matrix"]
    )


def head_leaves(modules):
    params, _ = modules.abstract_arrays()
    return {x.shape for x in Head.of(modules).leaves(params)}


def test_the_head_is_found_to_read_its_own_matrix_alone():
    assert head_leaves(make()) == {(64, 32)}


def test_a_tied_head_is_found_to_read_the_embedding():
    assert head_leaves(make(tie_head=True)) == {(64, 32)}


def test_a_model_says_how_wide_its_hidden_states_are():
    class Narrow(Transformer):
        def __init__(self, **fields):
            super().__init__(**fields)
            del self.dim

    student = functools.partial(Narrow, vocab_size=8, dim=4, num_heads=1, num_layers=1)
    modules = TrainModules(student, [], optax.identity())
    with pytest.raises(UserError, match="Narrow must set `dim`, the width"):
        Head.of(modules)
