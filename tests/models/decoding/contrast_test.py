"""A model without what an assistant knows, beside its formula in float64."""

import numpy as np
import pytest

from models.decoding.contrast import Contrast
from runner.teachers import EMATeacher, UnlearnedTeacher

RANDOM = np.random.default_rng(4)
TARGET, ASSISTANT = RANDOM.normal(size=(2, 3, 200), scale=2.0).astype(np.float32)


def log_softmax(x):
    x = np.float64(x)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def test_likely_tokens_alone_lose_what_the_assistant_knows():
    log_p, log_a = log_softmax(TARGET), log_softmax(ASSISTANT)
    for share, number in ((0.03, 6), (0.001, 1)):
        last = np.sort(log_p, axis=-1)[:, -number][:, None]
        least = np.minimum(last, log_p.max(-1, keepdims=True) + np.log(share))
        likely = log_p >= least
        assert 0 < likely.sum() < likely.size
        expected = TARGET + -0.8 * np.where(likely, log_a, 0.0)
        for assistant in (ASSISTANT, ASSISTANT + 3.0):  # a constant says nothing
            actual = Contrast(scale=-0.8, share=share)(TARGET, assistant)
            np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
        node = UnlearnedTeacher(
            base=EMATeacher(), assistant=EMATeacher(), scale=-0.8, share=share
        )
        teacher = node.combine([TARGET, ASSISTANT])
        np.testing.assert_allclose(teacher, expected, rtol=1e-4, atol=1e-4)


def test_an_assistant_is_taken_away_and_not_added():
    with pytest.raises(ValueError, match=r"at most 0 and finite, got 0\.5"):
        Contrast(scale=0.5)


@pytest.mark.slow  # two ends of the formula above
def test_an_unsure_assistant_changes_nothing_and_one_that_is_the_model_leaves_nothing():
    whole = Contrast(scale=-1.0, share=1.0)
    unsure = log_softmax(whole(TARGET, np.full_like(TARGET, 2.0)))
    np.testing.assert_allclose(unsure, log_softmax(TARGET), atol=1e-4)
    nothing = log_softmax(whole(TARGET, TARGET))
    np.testing.assert_allclose(nothing, -np.log(200), rtol=1e-4)
    with pytest.raises(ValueError, match="share must be in"):
        UnlearnedTeacher(base=EMATeacher(), assistant=EMATeacher(), share=0.0)
