import jax
import jax.numpy as jnp
import numpy as np
import pytest

from runner.errors import UserError
from runner.machine import out_of_memory

LENGTH = 2**22  # of a row whose attention weights nothing holds


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda: jnp.zeros((LENGTH, LENGTH)).block_until_ready(), "70,368,744,177,664"),
        (lambda: jax.jit(lambda x: jnp.full((2**40,), x))(1.0), "4,398,046,511,104"),
        (lambda: np.ones((LENGTH, LENGTH)), "128. TiB"),
    ],
)
def test_the_bytes_wanted_are_said_in_one_line(make, wanted):
    with pytest.raises(UserError, match=wanted) as refusal, out_of_memory.explained():
        make()
    assert str(refusal.value).startswith("out of memory: ")
    assert "\n" not in str(refusal.value)


def test_other_errors_are_left_alone():
    with pytest.raises(ZeroDivisionError), out_of_memory.explained():
        raise ZeroDivisionError
