"""Series: files, what is missing and hidden, baselines, fingerprints."""

import numpy as np
import pytest

from runner import data
from runner.errors import UserError

TEXT = "date,a,b\nMo,1.0,5\nTu,,7\nWe,3.0,nan\nTh,5.0,9\nFr,7,3\nSa,1,4\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "series.csv"
    path.write_text(TEXT)
    return str(path)


def test_a_file_is_cut_into_windows_and_standardized_by_what_is_trained_on(file):
    fields = {"num_steps": 2, "held_out": 1 / 3, "skip": ("date",)}
    train = data.SeriesFile(file, **fields).load()
    held_out = data.SeriesFile(file, split="held_out", **fields).load()
    table = np.array([[1, 5], [np.nan, 7], [3, np.nan], [5, 9], [7, 3], [1, 4]])
    mean, deviation = np.nanmean(table[:4], 0), np.nanstd(table[:4], 0)
    expected = ((table - mean) / deviation).reshape(3, 2, 2)
    for dataset, windows in ((train, expected[:2]), (held_out, expected[2:])):
        rows = dataset.rows(np.arange(len(dataset)))
        there = ~np.isnan(windows)
        np.testing.assert_array_equal(rows["observed"], there)
        np.testing.assert_allclose(rows["values"][there], windows[there], rtol=1e-6)
        assert not rows["hidden"].any()
        assert dataset.vocabulary.summary == "2 channels (a, b)"
    for fields, message in (
        ({"num_steps": 2}, "line 2: 'date' is no number: 'Mo'"),
        ({"num_steps": 9, "skip": ("date",)}, "fewer than num_steps=9"),
        ({"skip": ("dat",)}, "no column 'dat' to skip.*date"),
    ):
        with pytest.raises(UserError, match=message):
            data.SeriesFile(file, **fields).load()


def test_hidden_numbers_are_the_same_in_each_run_and_part_of_the_fingerprint():
    waves = data.Oscillations(num_rows=64, num_steps=40)
    hidden = [data.HiddenNumbers(waves, share=0.3, length=n, seed=1) for n in (1, 4)]
    plain, points, gaps = (source.load() for source in (waves, *hidden))
    again = hidden[0].load()
    assert points.fingerprint == again.fingerprint
    assert len({x.fingerprint for x in (plain, points, gaps)}) == 3
    numbers = np.arange(64)
    for dataset in (points, gaps):
        rows = dataset.rows(numbers)
        assert abs(rows["hidden"].mean() - 0.3) < 0.02
        np.testing.assert_array_equal(rows["observed"], ~rows["hidden"])
        np.testing.assert_array_equal(rows["values"], plain.rows(numbers)["values"])
    with pytest.raises(UserError, match=r"share must be in \[0, 1\), got 1.0"):
        data.HiddenNumbers(waves, share=1.0)


def test_baselines_are_the_errors_of_simple_guesses():
    values = np.float32([[[2.0], [0.0], [6.0], [0.0]]])
    hidden = np.array([[[False], [True], [False], [True]]])
    channels = data.Channels(["a"])
    train = data.Series(values=values, vocabulary=channels)
    held_out = data.Series(values=values, hidden=hidden, vocabulary=channels)
    baselines = {x.name: x.nats_per_token for x in train.baselines(held_out)}
    assert baselines == {
        "mean of the channel": 2.0,
        "last number": 4.0,  # 2 and 6
        "line between two": 5.0,  # 4 and 6
    }
