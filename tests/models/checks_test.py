import math

import pytest

from models import checks


def test_valid_fields_pass():
    checks.positive(dim=1, scale=0.5, window=None)
    checks.not_negative(rate=0.0)
    checks.divisible("dim", 8, by="num_heads", divisor=4)
    assert checks.one_of("pool", "mean", ("token", "mean")) == "mean"


@pytest.mark.parametrize("value", [0, -1.5, math.nan])
def test_a_field_that_is_not_positive_is_named_with_its_value(value):
    with pytest.raises(ValueError, match=rf"^dim must be positive, got {value}$"):
        checks.positive(scale=1.0, dim=value)


@pytest.mark.parametrize("value", [-1e-9, math.inf, math.nan])
def test_a_negative_or_infinite_field_is_named_with_its_value(value):
    with pytest.raises(ValueError, match=rf"^rate must not be negative, got {value}$"):
        checks.not_negative(rate=value)


@pytest.mark.parametrize(
    ("value", "hint"), [("silo", "; did you mean 'silu'\\?"), ("x", "")]
)
def test_an_unknown_choice_is_named_beside_the_nearest(value, hint):
    message = rf"^activation must be one of \['gelu', 'silu'\], got '{value}'{hint}$"
    with pytest.raises(ValueError, match=message):
        checks.one_of("activation", value, {"silu": 1, "gelu": 2})


def test_fields_that_do_not_divide_are_named_with_their_values():
    with pytest.raises(ValueError, match="dim must be divisible by heads, got 9 and 4"):
        checks.divisible("dim", 9, by="heads", divisor=4)


def test_the_nearest_name_or_all_names():
    assert checks.nearest("lama", ["qwen2", "llama"]) == "; did you mean 'llama'?"
    assert checks.nearest("x", ["b", "a"]) == "; one of: ['a', 'b']"
