"""Features and their similarity: values by hand, and in float64 NumPy."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import losses
from losses.core.masks import token_masks
from losses.core.term_values import evaluate, per_token

PAIRS = ((0, 1),)


def pair_outputs(student, teacher, *, mask=None, of="hidden"):
    """`student` at layer 0, `teacher` at layer 1; one row of tokens."""
    student, teacher = (jnp.asarray(x, jnp.float32) for x in (student, teacher))
    axes = student.shape[:1]
    mask = np.ones(axes, bool) if mask is None else mask
    return losses.FullOutputs(
        batch={"targets": jnp.zeros(axes, jnp.int32), "mask": jnp.asarray(mask)},
        logits=jnp.zeros((*axes, 0)),
        intermediates={f"{of}/0": student},
        teacher=losses.TeacherOutputs(intermediates={f"{of}/1": teacher}),
    )


def mean(loss, outputs):
    term = losses.LossTerm(name="term", loss=loss)
    actual = evaluate([term], outputs)["term"]
    return actual.total / actual.count


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_the_square_is_the_mean_over_the_width_and_over_the_layers():
    actual = losses.FeatureMSE(layers=PAIRS)(
        pair_outputs([[1.0, 2.0, 3.0]], [[1.0, 0.0, 0.0]])
    )
    np.testing.assert_allclose(actual, [(4 + 9) / 3], rtol=1e-6)
    outputs = losses.FullOutputs(
        batch={"targets": jnp.zeros(1, jnp.int32)},
        logits=jnp.zeros((1, 0)),
        intermediates={"hidden/0": jnp.zeros((1, 2)), "hidden/2": jnp.ones((1, 2))},
        teacher=losses.TeacherOutputs(
            intermediates={
                "hidden/5": jnp.ones((1, 2)),
                "hidden/1": jnp.full((1, 2), 3.0),
            }
        ),
    )
    loss = losses.FeatureMSE(layers=((0, 5), (2, 1)))
    np.testing.assert_allclose(loss(outputs), [(1 + 4) / 2])


def test_the_cosine_is_that_of_the_angle_whatever_the_sizes():
    student = [[1.0, 0.0], [0.0, 7.0], [-2.0, 0.0], [0.0, 0.0]]
    teacher = [[5.0, 5.0], [0.0, 0.1], [3.0, 0.0], [1.0, 2.0]]
    actual = losses.FeatureCosine(layers=PAIRS)(pair_outputs(student, teacher))
    np.testing.assert_allclose(
        actual, [1 - 1 / math.sqrt(2), 0.0, 2.0, 1.0], rtol=1e-5, atol=1e-6
    )


def test_a_vector_without_a_direction_has_no_gradient():
    def total(student):
        loss = losses.FeatureCosine(layers=PAIRS)
        return jnp.sum(loss(pair_outputs(student, np.ones((1, 3)))))

    np.testing.assert_array_equal(jax.grad(total)(jnp.zeros((1, 3))), np.zeros((1, 3)))


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        (4, 12, ((0, 2), (1, 5), (2, 8), (3, 11))),  # TinyBERT-4, g(m) = 3m
        (2, 4, ((0, 1), (1, 3))),
        (3, 3, ((0, 0), (1, 1), (2, 2))),
        (2, 5, ((0, 1), (1, 4))),
    ],
)
def test_a_uniform_map_ends_at_the_last_layer(student, teacher, expected):
    actual = losses.uniform_map(student_layers=student, teacher_layers=teacher)
    assert actual == expected


def cka(x, y):
    """By Gram matrices of the tokens and HSIC, Kornblith et al. eq. 3 and 4."""
    count = len(x)
    centring = np.eye(count) - np.ones((count, count)) / count

    def hsic(k, m):
        return np.trace(k @ centring @ m @ centring)

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / math.sqrt(hsic(k, k) * hsic(m, m))


def test_cka_is_that_of_gram_matrices_in_float64():
    x, y = drawn(20, 5) + 2.0, drawn(20, 3, seed=1)
    y = y + x[:, :3]
    mask = drawn(20, seed=2) > -0.5
    actual = mean(losses.CKA(layers=PAIRS), pair_outputs(x, y, mask=mask))
    np.testing.assert_allclose(actual, 1 - cka(x[mask], y[mask]), rtol=1e-5)
    assert 0.1 < actual < 0.9


def test_the_gradient_of_cka_is_that_of_finite_differences_of_gram_matrices():
    x, y = drawn(8, 3) + 1.0, drawn(8, 4, seed=1)
    mask = np.arange(8) != 3
    actual = jax.grad(
        lambda x: mean(losses.CKA(layers=PAIRS), pair_outputs(x, y, mask=mask))
    )(jnp.asarray(x, jnp.float32))
    expected = np.zeros_like(x)
    for place in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[place] = 1e-5
        up, down = (cka((x + s)[mask], y[mask]) for s in (step, -step))
        expected[place] = -(up - down) / 2e-5
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-6)


def test_cka_and_its_gradient_are_exact_for_features_far_from_zero():
    random = np.random.default_rng(3)
    mask = random.random(20) < 0.7
    x, y = (random.normal(size=(20, width)) for width in (6, 4))
    x, y = (z + random.normal(size=z.shape[-1]) * 2000.0 for z in (x, y))
    x, y = (z.astype(np.float32) for z in (x, y))

    def value(x, y):
        return mean(losses.CKA(layers=PAIRS), pair_outputs(x, y, mask=mask))

    actual, gradient = jax.value_and_grad(value)(jnp.asarray(x), jnp.asarray(y))
    exact = cka(*(np.float64(z[mask]) for z in (x, y)))
    np.testing.assert_allclose(actual, 1 - exact, rtol=1e-5)
    # Around the mean in float64, where nothing is far from zero.
    near = [np.float64(z) - np.mean(z[mask], axis=0, dtype=np.float64) for z in (x, y)]
    expected = jax.grad(value)(*(jnp.asarray(z, jnp.float32) for z in near))
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5)


def test_cka_sees_no_rotation_offset_or_scale():
    x = drawn(30, 4)
    rotation = np.linalg.qr(drawn(4, 4, seed=3))[0]
    loss = losses.CKA(layers=PAIRS)
    np.testing.assert_allclose(mean(loss, pair_outputs(x, x)), 0.0, atol=1e-6)
    np.testing.assert_allclose(
        mean(loss, pair_outputs(x, -3.0 * x @ rotation + 5.0)), 0.0, atol=1e-5
    )
    stretched = x * np.array([1.0, 1.0, 1.0, 9.0])
    assert mean(loss, pair_outputs(x, stretched)) > 0.1


def test_cka_of_orthogonal_features_is_zero_and_of_half_of_them_known():
    """Columns of a Hadamard matrix: X has two of them, Y one of these and two more."""
    signs = np.array(
        [[(-1) ** (i & j).bit_count() for j in range(8)] for i in range(8)]
    )
    loss = losses.CKA(layers=PAIRS)
    x = signs[:, 1:3]
    np.testing.assert_allclose(
        mean(loss, pair_outputs(x, signs[:, 3:6])), 1.0, atol=1e-6
    )
    actual = mean(loss, pair_outputs(x, signs[:, 2:5]))
    np.testing.assert_allclose(actual, 1 - 1 / math.sqrt(6), rtol=1e-5)


def test_a_student_that_says_the_same_of_every_token_is_not_similar():
    def value(x):
        return mean(losses.CKA(layers=PAIRS), pair_outputs(x, drawn(6, 2)))

    actual, gradient = jax.value_and_grad(value)(jnp.ones((6, 3)))
    assert actual == 1.0 and np.all(np.isfinite(gradient))


def projected(**fields):
    fields = {"student_dim": 2, "teacher_dim": 3} | fields
    return losses.Projected(
        loss=losses.FeatureMSE(layers=((0, 1), (2, 1))), rngs=nnx.Rngs(0), **fields
    )


def test_a_projection_maps_every_layer_of_the_student_by_a_matrix_of_its_own():
    loss = projected()
    matrices = {path: p[...] for path, p in loss.projections.items()}
    assert sorted(matrices) == ["hidden_0", "hidden_2"]
    assert not np.allclose(matrices["hidden_0"], matrices["hidden_2"])
    x, z, y = drawn(4, 2), drawn(4, 2, seed=1), drawn(4, 3, seed=2)
    outputs = pair_outputs(x, y)
    ours = {**outputs.intermediates, "hidden/2": jnp.asarray(z, jnp.float32)}
    outputs = dataclasses.replace(outputs, intermediates=ours)
    expected = [
        np.mean((a @ np.asarray(matrices[path]) - y) ** 2, axis=-1)
        for a, path in ((x, "hidden_0"), (z, "hidden_2"))
    ]
    np.testing.assert_allclose(loss(outputs), np.mean(expected, axis=0), rtol=1e-5)


REFUSED = {
    "no pairs": (
        lambda: losses.FeatureMSE(layers=()),
        r"layers must be pairs .*, got \(\)",
    ),
    "twice": (
        lambda: losses.CKA(layers=((0, 1), (0, 2))),
        "layers names a student's layer twice",
    ),
    "deeper": (
        lambda: losses.uniform_map(student_layers=4, teacher_layers=2),
        r"student_layers must be from 1 to teacher_layers \(2\), got 4",
    ),
    "widths": (
        lambda: losses.FeatureMSE(layers=PAIRS)(pair_outputs(drawn(2, 3), drawn(2, 4))),
        "FeatureMSE: the student has 3 features in hidden and the teacher 4; "
        "losses.Projected",
    ),
    "width": (lambda: projected(student_dim=0), "student_dim must be at least 1, got"),
    "another width": (
        lambda: projected(student_dim=5)(pair_outputs(drawn(2, 2), drawn(2, 3))),
        "the student's hidden/0 is 2 wide, and student_dim says 5",
    ),
    "any width": (
        lambda: losses.Projected(
            loss=losses.CKA(layers=PAIRS),
            student_dim=2,
            teacher_dim=2,
            rngs=nnx.Rngs(0),
        ),
        "CKA compares any widths",
    ),
    "heads": (
        lambda: losses.AttentionKL(layers=PAIRS)(
            pair_outputs(drawn(2, 3, 2), drawn(2, 4, 2), of="attention")
        ),
        "AttentionKL: the student has 3 attention heads and the teacher 4",
    ),
    "no relation": (
        lambda: losses.Relations(layers=PAIRS, of="logits", heads=2),
        "of must be one of queries, keys, values, hidden, got 'logits'",
    ),
    "no head": (
        lambda: losses.Relations(layers=PAIRS, of="keys", heads=0),
        "heads must be at least 1, got 0",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_compared_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_list_of_pairs_is_as_good_as_a_tuple():
    listed = losses.FeatureMSE(layers=[[0, 1]])  # pyright: ignore[reportArgumentType] - as a command line gives it
    assert listed == losses.FeatureMSE(layers=PAIRS)
    assert hash(listed) == hash(losses.FeatureMSE(layers=PAIRS))


# What follows is of tokens that see each other.

DOCUMENTS = np.array([[1, 1, 1, 2, 2, 0], [1, 2, 2, 2, 2, 2]], np.int32)
VISIBLE = (DOCUMENTS[:, :, None] == DOCUMENTS[:, None]) & np.tri(6, dtype=bool)


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def row_kl(p, q):
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(p > 0, p * (np.log(p) - np.log(q)), 0.0).sum(-1)


def rows(**intermediates):
    """`of=(student, teacher)`, both at layer 0, over `DOCUMENTS`."""
    ours, theirs = (
        {f"{of}/0": jnp.asarray(x[i], jnp.float32) for of, x in intermediates.items()}
        for i in (0, 1)
    )
    return losses.FullOutputs(
        batch={
            "targets": jnp.zeros((2, 6), jnp.int32),
            "segment_ids": jnp.asarray(DOCUMENTS),
        },
        logits=jnp.zeros((2, 6, 0)),
        intermediates=ours,
        teacher=losses.TeacherOutputs(intermediates=theirs),
    )


def values(loss, outputs):
    term = losses.LossTerm(name="term", loss=loss, mask=losses.token_mask)
    masks = token_masks([term], outputs.batch)
    actual = per_token([term], outputs, masks=masks, statistics={})
    return np.asarray(actual["term"].values)


def masked(scores, visible=VISIBLE):
    return np.where(visible[:, :, None], scores, -np.inf)


def test_attention_kl_in_float64():
    s, t = (drawn(2, 6, 3, 6, seed=i) * 2 for i in (0, 1))
    actual = values(
        losses.AttentionKL(layers=((0, 0),)), rows(attention=(masked(s), masked(t)))
    )
    expected = row_kl(softmax(masked(t)), softmax(masked(s))).mean(-1)
    np.testing.assert_allclose(actual, expected * (DOCUMENTS > 0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(actual[:, 0], 0.0, atol=1e-6)  # sees itself alone


def test_attention_kl_over_a_window_is_over_what_both_see():
    s, t = (drawn(2, 6, 1, 6, seed=i) for i in (0, 1))
    near = VISIBLE & ~np.tri(6, k=-2, dtype=bool)
    actual = values(
        losses.AttentionKL(layers=((0, 0),)),
        rows(attention=(masked(s, near), masked(t))),
    )
    both = softmax(masked(t, near)), softmax(masked(s, near))
    np.testing.assert_allclose(
        actual, row_kl(*both).mean(-1) * (DOCUMENTS > 0), rtol=1e-4, atol=1e-6
    )


def test_attention_mse_is_the_mean_over_the_keys_that_are_seen():
    s, t = (drawn(2, 6, 3, 6, seed=i) for i in (0, 1))
    actual = values(
        losses.AttentionMSE(layers=((0, 0),)), rows(attention=(masked(s), masked(t)))
    )
    square = np.where(VISIBLE[:, :, None], (s - t) ** 2, 0.0).sum(-1)
    expected = (square / VISIBLE.sum(-1)[..., None]).mean(-1)
    np.testing.assert_allclose(actual, expected * (DOCUMENTS > 0), rtol=1e-5)


def relations(x, heads, visible):
    parts = np.reshape(x, (2, 6, heads, -1))
    scores = np.einsum("btad,bsad->btas", parts, parts) / math.sqrt(parts.shape[-1])
    return softmax(np.where(visible[:, :, None], scores, -np.inf))


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_relations_in_float64_for_widths_and_heads_that_differ(heads):
    student, teacher = drawn(2, 6, 2, 4), drawn(2, 6, 4, 3, seed=1)
    loss = losses.Relations(layers=((0, 0),), of="values", heads=heads)
    actual = values(loss, rows(values=(student, teacher)))
    p, q = (relations(x, heads, VISIBLE) for x in (teacher, student))
    expected = row_kl(p, q).mean(-1) * (DOCUMENTS > 0)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


def test_a_token_relates_to_its_own_document_and_to_none_that_does_not_count():
    teacher, student = xs = drawn(2, 6, 2, 4), drawn(2, 6, 2, 4, seed=1)
    loss = losses.Relations(layers=((0, 0),), of="keys", heads=2)
    outputs = rows(keys=(student, teacher))

    def gradient(place, mask):
        def value(student):
            ours = {"keys/0": student}
            make_outputs = functools.partial(
                losses.FullOutputs, teacher=outputs.teacher
            )
            student_outputs = make_outputs(
                batch=outputs.batch, logits=outputs.logits, intermediates=ours
            )
            return loss(student_outputs.where(jnp.asarray(mask)))[place]

        actual = jax.grad(value)(jnp.asarray(student, jnp.float32))
        return np.abs(actual).sum((2, 3)) > 0

    every = DOCUMENTS > 0
    reached = gradient((0, 4), every)
    np.testing.assert_array_equal(reached[0], [0, 0, 0, 1, 1, 0])
    assert not reached[1].any()

    some = every & (np.arange(6) != 2)[None]
    actual = np.asarray(loss(outputs.where(jnp.asarray(some))))
    p, q = (
        relations(x, 2, VISIBLE & some[:, None] | np.eye(6, dtype=bool)) for x in xs
    )
    np.testing.assert_allclose(actual[some], row_kl(p, q).mean(-1)[some], rtol=1e-4)


def test_a_rotation_within_a_relation_head_changes_nothing():
    student = drawn(2, 6, 1, 4)
    rotation = np.linalg.qr(drawn(4, 4, seed=3))[0]
    loss = losses.Relations(layers=((0, 0),), of="queries", heads=1)
    actual = values(loss, rows(queries=(student, student @ rotation)))
    np.testing.assert_allclose(actual, 0.0, atol=1e-5)


def test_the_head_count_must_divide_the_widths():
    loss = losses.Relations(layers=((0, 0),), of="queries", heads=3)
    with pytest.raises(ValueError, match="student's queries have 8 features, which do"):
        values(loss, rows(queries=(drawn(2, 6, 2, 4), drawn(2, 6, 3, 2))))
