"""Router distillation: against float64 NumPy and SciPy, value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, rel_entr

import losses


def outputs(student, teacher):
    """By path, router logits of both."""
    shape = next(iter(student.values())).shape[:1]
    return losses.FullOutputs(
        batch={"targets": jnp.zeros(shape, jnp.int32), "mask": jnp.ones(shape, bool)},
        logits=jnp.zeros((*shape, 2)),
        intermediates=_float32(student),
        teacher=losses.TeacherOutputs(intermediates=_float32(teacher)),
    )


def _float32(arrays):
    return {name: jnp.asarray(x, jnp.float32) for name, x in arrays.items()}


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape, scale=2.0)


def expected(student, teacher, temperature):
    """The mean over layers of SciPy's `Σ p log(p / q)`."""
    p, q = (np.exp(log_softmax(x / temperature, -1)) for x in (teacher, student))
    return rel_entr(p, q).sum(-1).mean(-1)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_it_is_the_mean_over_layers_of_the_divergence(temperature):
    student, teacher = draw(5, 3, 4), draw(5, 3, 4, seed=1)
    loss = losses.RouterDistillation(temperature=temperature)

    def total(logits):
        return jnp.sum(loss(outputs({"router_logits": logits}, given)))

    given = {"router_logits": teacher}
    found = loss(outputs({"router_logits": student}, given))
    np.testing.assert_allclose(
        found, expected(student, teacher, temperature), rtol=1e-5
    )
    gradient = jax.grad(total)(jnp.asarray(student, jnp.float32))
    q, p = (np.exp(log_softmax(x / temperature, -1)) for x in (student, teacher))
    np.testing.assert_allclose(
        gradient, (q - p) / temperature / 3, rtol=2e-4, atol=1e-6
    )


def test_layers_are_paired_as_said():
    """Student 0 from teacher 3, student 1 from teacher 1, and from no other."""
    student, teacher = draw(5, 2, 4), draw(5, 6, 4, seed=1)
    loss = losses.RouterDistillation(layers=((0, 3), (1, 1)))
    ours = {f"router_logits/{i}": student[:, i] for i in (0, 1)}
    theirs = {f"router_logits/{j}": teacher[:, j] for j in (1, 3)}
    assert loss.needs == {*ours, *(f"teacher/{path}" for path in theirs)}
    found = loss(outputs(ours, theirs))
    np.testing.assert_allclose(
        found, expected(student, teacher[:, [3, 1]], 1.0), rtol=1e-5
    )


def test_a_router_that_agrees_costs_nothing():
    same = {"router_logits": draw(5, 2, 4)}
    shifted = {"router_logits": same["router_logits"] + 3.0}
    found = losses.RouterDistillation()(outputs(same, shifted))
    np.testing.assert_allclose(found, np.zeros(5), atol=1e-6)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ((5, 2, 8), "the student has 4 experts and the teacher 8"),
        ((5, 3, 4), r"the student has 2 MoE layers and the teacher 3; pair them"),
    ],
)
def test_routers_of_other_sizes_are_refused(teacher, message):
    seen = outputs({"router_logits": draw(5, 2, 4)}, {"router_logits": draw(*teacher)})
    with pytest.raises(ValueError, match=message):
        losses.RouterDistillation()(seen)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
        ({"layers": ()}, r"layers must be pairs .* got \(\)"),
        ({"layers": ((0, -1),)}, "layers must be pairs"),
        ({"layers": ((0, 1, 2),)}, "layers must be pairs"),
        ({"layers": ((0, 1), (0, 2))}, "names a student's layer twice"),
    ],
)
def test_a_wrong_field_is_named_with_its_value(fields, message):
    with pytest.raises(ValueError, match=message):
        losses.RouterDistillation(**fields)
