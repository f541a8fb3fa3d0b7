"""Lists of points, put together; and every way to put them together wrongly."""

import ast
import math

import hypothesis
import pytest
from hypothesis import strategies as st

from runner import sweeps
from runner.errors import UserError
from runner.sweeps import points

VALUES = st.one_of(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()
)


@st.composite
def parts(draw, *, equal=False):
    """Lists of points over different keys."""
    size = draw(st.integers(1, 4)) if equal else None
    sizes = st.integers(1, 4) if size is None else st.just(size)
    return [
        sweeps.values(f"fdl.x{i}", *range(i, i + draw(sizes)))
        for i in range(draw(st.integers(1, 4)))
    ]


@hypothesis.given(parts())
def test_a_product_holds_every_combination_once(given):
    found = sweeps.product(*given)
    assert len(found) == math.prod(len(part) for part in given)
    assert len({tuple(point.items()) for point in found}) == len(found)
    keys = [next(iter(part[0])) for part in given]
    for point in found:
        assert list(point) == keys  # flags apply in the order of the parts
        for key, part in zip(keys, given, strict=True):
            assert {key: point[key]} in part
    assert found == points.check(found)


@hypothesis.given(parts())
def test_the_last_part_of_a_product_turns_fastest(given):
    found = sweeps.product(*given)
    last = given[-1]
    assert [{k: p[k] for k in last[0]} for p in found[: len(last)]] == last


@hypothesis.given(parts(equal=True))
def test_zipped_takes_the_nth_of_each(given):
    found = sweeps.zipped(*given)
    assert len(found) == len(given[0])
    for number, point in enumerate(found):
        assert point == {k: x for part in given for k, x in part[number].items()}


@hypothesis.given(parts(), parts())
def test_a_product_of_products_is_the_product(left, right):
    right = [[{k + "b": x for k, x in p.items()} for p in part] for part in right]
    nested = sweeps.product(sweeps.product(*left), sweeps.product(*right))
    assert nested == sweeps.product(*left, *right)


@hypothesis.given(VALUES)
def test_a_value_comes_back_from_the_flag_it_is_typed_as(value):
    (flag,) = points.flags({"fdl.x": value})
    assert flag.name == "fdl.x" and ast.literal_eval(flag.value) == value


def test_a_fiddler_is_typed_as_it_is():
    (flag,) = points.flags({"fiddler": "steps(300)"})
    assert str(flag) == "--fiddler=steps(300)"


def two():
    return sweeps.values("fdl.a", 1, 2)


MISTAKES = {
    "no values": (lambda: sweeps.values("fdl.a"), "fdl.a: no values"),
    "twice": (lambda: sweeps.values("fdl.a", 1, 2, 1), "the point fdl.a=1 is there"),
    "duplicate keys": (lambda: sweeps.product(two(), two()), "two parts set fdl.a"),
    "zipped keys": (lambda: sweeps.zipped(two(), two()), "two parts set fdl.a"),
    "lengths": (
        lambda: sweeps.zipped(two(), sweeps.values("fdl.b", 1, 2, 3)),
        "unequal lengths: 2 and 3 points",
    ),
    "nothing": (lambda: sweeps.product(), "product: nothing to combine"),
    "an empty part": (lambda: sweeps.product(two(), []), "part 2 has no points"),
    "gin": (lambda: sweeps.values("gin.mesh.data", 1), "cannot set gin flags"),
    "a gin file": (lambda: sweeps.values("gin_file", "x"), "cannot set gin flags"),
    "no prefix": (lambda: sweeps.values("num_steps", 1), "mean 'fdl.num_steps'?"),
    "dashes": (lambda: sweeps.values("--fdl.a", 1), "'--fdl.a' is no flag of the"),
    "no path": (lambda: sweeps.values("fdl.", 1), "'fdl.' is no flag of the graph"),
    "workdir": (lambda: sweeps.values("workdir", "x"), "'workdir' is no flag of the"),
    "an object": (lambda: sweeps.values("fdl.a", len), "fdl.a: expected a literal"),
    "NaN": (lambda: sweeps.values("fdl.a", math.nan), "fdl.a: expected a literal"),
    "a function": (lambda: sweeps.values("fiddler", len), "expected text such as"),
    "no list": (lambda: points.check({"fdl.a": 1}), "made dict, not a list of points"),
    "no points": (lambda: points.check([]), "made no points"),
    "an empty point": (lambda: points.check([{}]), "expected points {flag: value}"),
    "a sum": (lambda: points.check(two() + two()), "fdl.a=1 is there twice"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named(name):
    make, said = MISTAKES[name]
    with pytest.raises(UserError) as refused:
        make()
    assert said in str(refused.value) and "\n" not in str(refused.value)
