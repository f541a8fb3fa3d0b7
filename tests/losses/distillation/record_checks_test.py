"""Records of teachers that divergences read, and those that they refuse."""

import dataclasses

import pytest

import losses
from tests.losses.distillation.by_name import BY_NAME


def stored(mode, *temperatures):
    return losses.RecordSpec(mode=mode, temperatures=temperatures)


@pytest.mark.parametrize("loss", BY_NAME.values(), ids=BY_NAME)
def test_records_that_fit_are_read(loss):
    loss.check_records(stored("top_k", 1.0, 2.0))
    loss.check_records(stored("full"))


def test_draws_are_read_by_forward_kl_alone():
    sampled = losses.ForwardKL(sparse="sampled")
    sampled.check_records(stored("sampled", 1.0))
    sampled.check_records(stored("full"))
    for loss in BY_NAME.values():
        with pytest.raises(ValueError, match="draws"):
            loss.check_records(stored("sampled", 1.0))
        if not isinstance(loss, losses.ForwardKL):
            with pytest.raises(ValueError, match="only ForwardKL"):
                dataclasses.replace(loss, sparse="sampled")


@pytest.mark.parametrize(
    ("loss", "records", "message"),
    [
        (
            losses.ReverseKL(temperature=3.0),
            stored("top_k", 1.0, 2.0),
            r"ReverseKL wants temperature 3.0, .* stored: 1.0, 2.0$",
        ),
        (
            losses.ForwardKL(sparse="sampled", temperature=2.0),
            stored("sampled", 1.0),
            r"temperature 2.0, .* stored: 1.0$",
        ),
        (
            losses.ForwardKL(sparse="sampled"),
            stored("top_k", 1.0),
            r"sparse='sampled'\) reads draws, and the records hold the best",
        ),
        (
            losses.ForwardKL(),
            stored("sampled", 1.0),
            r"sparse='tail_bucket'\) reads the best .* the records hold draws",
        ),
        (
            losses.ForwardKL(temperature=2.0),
            dataclasses.replace(stored("top_k", 1.0), remedy="Aligned(temperatures="),
            r"the teacher does not give; wanted: Aligned\(temperatures=\(1.0, 2.0\)\)$",
        ),
        (losses.LogitMSE(), stored("full"), "up to a constant"),
        (losses.LogitMSE(), stored("top_k", 1.0), "up to a constant"),
    ],
)
def test_records_that_do_not_fit_are_refused_in_one_line(loss, records, message):
    with pytest.raises(ValueError, match=message) as refusal:
        loss.check_records(records)
    assert "\n" not in str(refusal.value)


def test_a_misspelt_convention_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="got 'tail_buckets'; nearest: 'tail_bucket'"):
        losses.ForwardKL(sparse="tail_buckets")
