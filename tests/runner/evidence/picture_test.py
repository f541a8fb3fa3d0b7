"""The picture of settings over seeds."""

import re

from runner.evidence import picture
from runner.evidence.comparison import compare

SEEDS = (0, 1, 2)


def around(mean):
    return {seed: mean + 0.01 * seed for seed in SEEDS}


def words(svg):
    return re.findall(r"<text[^>]*>([^<]+)</text>", svg)


def test_the_best_stands_on_top_and_one_far_off_is_an_arrow_with_its_number():
    values = {"kd.loss=losses.ReverseKL()": around(1.2), "base": around(1.0)}
    values |= {"a": around(0.9), "b": around(0.95), "off": around(60.0)}
    names = ["a", "b", "base", "kd.loss=ReverseKL()", "off"]
    found = words(picture.svg(compare("held_out/loss", values, "base")))
    assert [x for x in found if x in names] == names
    assert "+59" in found
    found = words(picture.svg(compare("held_out/accuracy", values, "base")))
    assert [x for x in found if x in names] == names[::-1]


def test_modules_of_calls_are_left_out_and_numbers_stay():
    text = "kd.loss=losses.Scheduled(loss=losses.ForwardKL(), field='x', to=1.0)"
    plain = "kd.loss=Scheduled(loss=ForwardKL(), field='x', to=1.0)"
    assert picture.plain(text) == plain
