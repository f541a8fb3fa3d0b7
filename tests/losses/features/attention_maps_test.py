"""Attention maps and self-attention relations against float64 NumPy."""

import math

import numpy as np
import pytest

import losses
from tests.losses.features.pairs import drawn
from tests.losses.jitted import gradient_of_token, values

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
        {f"{of}/0": np.float32(x[i]) for of, x in intermediates.items()} for i in (0, 1)
    )
    return losses.FullOutputs(
        batch={
            "targets": np.zeros((2, 6), np.int32),
            "segment_ids": DOCUMENTS,
        },
        logits=np.zeros((2, 6, 0), np.float32),
        intermediates=ours,
        teacher=losses.TeacherOutputs(intermediates=theirs),
    )


def counted_values(loss, outputs):
    return values(loss, outputs, mask=DOCUMENTS > 0)


def masked(scores, visible=VISIBLE):
    return np.where(visible[:, :, None], scores, -np.inf)


def test_attention_kl_in_float64():
    s, t = (drawn(2, 6, 3, 6, seed=i) * 2 for i in (0, 1))
    actual = counted_values(
        losses.AttentionKL(layers=((0, 0),)), rows(attention=(masked(s), masked(t)))
    )
    expected = row_kl(softmax(masked(t)), softmax(masked(s))).mean(-1)
    np.testing.assert_allclose(actual, expected * (DOCUMENTS > 0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(actual[:, 0], 0.0, atol=1e-6)  # sees itself alone


def test_attention_kl_over_a_window_is_over_what_both_see():
    s, t = (drawn(2, 6, 1, 6, seed=i) for i in (0, 1))
    near = VISIBLE & ~np.tri(6, k=-2, dtype=bool)
    actual = counted_values(
        losses.AttentionKL(layers=((0, 0),)),
        rows(attention=(masked(s, near), masked(t))),
    )
    both = softmax(masked(t, near)), softmax(masked(s, near))
    np.testing.assert_allclose(
        actual, row_kl(*both).mean(-1) * (DOCUMENTS > 0), rtol=1e-4, atol=1e-6
    )


def test_attention_mse_is_the_mean_over_the_keys_that_are_seen():
    s, t = (drawn(2, 6, 3, 6, seed=i) for i in (0, 1))
    actual = counted_values(
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
    actual = counted_values(loss, rows(values=(student, teacher)))
    p, q = (relations(x, heads, VISIBLE) for x in (teacher, student))
    expected = row_kl(p, q).mean(-1) * (DOCUMENTS > 0)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


def test_a_token_relates_to_its_own_document_and_to_none_that_does_not_count():
    teacher, student = xs = drawn(2, 6, 2, 4), drawn(2, 6, 2, 4, seed=1)
    loss = losses.Relations(layers=((0, 0),), of="keys", heads=2)
    outputs = rows(keys=(student, teacher))

    every = DOCUMENTS > 0
    gradient = gradient_of_token(loss, outputs, "keys/0", mask=every, token=(0, 4))
    reached = np.abs(gradient).sum((2, 3)) > 0
    np.testing.assert_array_equal(reached[0], [0, 0, 0, 1, 1, 0])
    assert not reached[1].any()

    some = every & (np.arange(6) != 2)[None]
    actual = values(loss, outputs, mask=some)
    p, q = (
        relations(x, 2, VISIBLE & some[:, None] | np.eye(6, dtype=bool)) for x in xs
    )
    np.testing.assert_allclose(actual[some], row_kl(p, q).mean(-1)[some], rtol=1e-4)


def test_a_rotation_within_a_relation_head_changes_nothing():
    student = drawn(2, 6, 1, 4)
    rotation = np.linalg.qr(drawn(4, 4, seed=3))[0]
    loss = losses.Relations(layers=((0, 0),), of="queries", heads=1)
    actual = counted_values(loss, rows(queries=(student, student @ rotation)))
    np.testing.assert_allclose(actual, 0.0, atol=1e-5)


def test_the_head_count_must_divide_the_widths():
    loss = losses.Relations(layers=((0, 0),), of="queries", heads=3)
    with pytest.raises(ValueError, match="student's queries have 8 features, which do"):
        counted_values(loss, rows(queries=(drawn(2, 6, 2, 4), drawn(2, 6, 3, 2))))
