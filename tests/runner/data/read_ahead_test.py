import threading

import pytest

from runner.data.read_ahead import one_ahead


def test_results_are_in_order_and_one_is_ahead():
    started = []

    def double(x):
        started.append((x, threading.current_thread() is threading.main_thread()))
        return 2 * x

    results = one_ahead(double, range(5))
    assert next(results) == 0
    assert [x for x, _ in started][:1] == [0]
    assert [0, *results] == [0, 2, 4, 6, 8]
    assert started == [(x, False) for x in range(5)]
    assert list(one_ahead(double, [])) == []


def test_an_error_comes_in_its_turn():
    results = one_ahead(lambda x: 1 // x, [1, 0, 1])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
