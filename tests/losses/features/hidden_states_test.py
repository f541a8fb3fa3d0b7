"""Distances of hidden states, and projections: values by hand; what is refused."""

import dataclasses
import functools
import math

import numpy as np
import pytest
from flax import nnx

import losses
from tests.losses.features.pairs import PAIRS, drawn, pair_outputs
from tests.losses.jitted import mean_and_grad, values


def test_the_square_is_the_mean_over_the_width_and_over_the_layers():
    actual = values(
        losses.FeatureMSE(layers=PAIRS),
        pair_outputs([[1.0, 2.0, 3.0]], [[1.0, 0.0, 0.0]]),
    )
    np.testing.assert_allclose(actual, [(4 + 9) / 3], rtol=1e-6)
    full = functools.partial(np.full, (1, 2), dtype=np.float32)
    outputs = losses.FullOutputs(
        batch={"targets": np.zeros(1, np.int32)},
        logits=np.zeros((1, 0), np.float32),
        intermediates={"hidden/0": full(0.0), "hidden/2": full(1.0)},
        teacher=losses.TeacherOutputs(
            intermediates={"hidden/5": full(1.0), "hidden/1": full(3.0)}
        ),
    )
    loss = losses.FeatureMSE(layers=((0, 5), (2, 1)))
    np.testing.assert_allclose(values(loss, outputs), [(1 + 4) / 2])


def test_the_cosine_is_that_of_the_angle_whatever_the_sizes():
    student = [[1.0, 0.0], [0.0, 7.0], [-2.0, 0.0], [0.0, 0.0]]
    teacher = [[5.0, 5.0], [0.0, 0.1], [3.0, 0.0], [1.0, 2.0]]
    actual = values(losses.FeatureCosine(layers=PAIRS), pair_outputs(student, teacher))
    np.testing.assert_allclose(
        actual, [1 - 1 / math.sqrt(2), 0.0, 2.0, 1.0], rtol=1e-5, atol=1e-6
    )


def test_a_vector_without_a_direction_has_no_gradient():
    outputs = pair_outputs(np.zeros((1, 3)), np.ones((1, 3)))
    loss = losses.FeatureCosine(layers=PAIRS)
    _, gradient = mean_and_grad(loss, outputs, "hidden/0")
    np.testing.assert_array_equal(gradient, np.zeros((1, 3)))


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
    ours = {**outputs.intermediates, "hidden/2": np.float32(z)}
    outputs = dataclasses.replace(outputs, intermediates=ours)
    expected = [
        np.mean((a @ np.asarray(matrices[path]) - y) ** 2, axis=-1)
        for a, path in ((x, "hidden_0"), (z, "hidden_2"))
    ]
    actual = values(loss, outputs)
    np.testing.assert_allclose(actual, np.mean(expected, axis=0), rtol=1e-5)


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
