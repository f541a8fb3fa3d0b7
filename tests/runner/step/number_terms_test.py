"""Series: terms that read classes are refused, and evaluations that hide nothing."""

import pytest

import losses
from losses import LossTerm
from runner import data
from runner.errors import UserError
from runner.step import number_terms

WAVES = data.Oscillations(num_rows=8, num_steps=4, channels=2)


def test_series_are_refused_by_terms_that_read_classes_and_without_hidden_numbers():
    dataset = WAVES.load()
    kinds = {
        "distance": losses.ValueDistance(),
        "mse": losses.LogitMSE(),
        "ce": losses.CrossEntropy(),
    }
    for name, loss in kinds.items():
        terms = [LossTerm(name=name, loss=loss)]
        if name != "ce":
            number_terms.check_terms(terms, dataset)
            continue
        with pytest.raises(UserError, match=r"losses\.ce: CrossEntropy .*2 channels"):
            number_terms.check_terms(terms, dataset)
    for source in (WAVES, data.HiddenNumbers(WAVES, share=0.0)):
        with pytest.raises(UserError, match="no number is hidden; wanted: data=runner"):
            number_terms.check_hidden(source.load())
    number_terms.check_hidden(data.HiddenNumbers(WAVES, share=0.5).load())
