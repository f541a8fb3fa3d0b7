"""What a head must be to be read."""

import jax
import jax.numpy as jnp
import pytest

from runner.errors import UserError
from runner.head.head import Head


class Mine:
    """A model of nothing but a head, as good as a model for its `Head`."""

    def __init__(self, logits):
        self.head = logits


@pytest.mark.parametrize(
    ("logits", "actual"),
    [
        (lambda hidden: hidden.astype(jnp.bfloat16), r"bfloat16 \[4\]"),
        (lambda hidden: hidden[..., None], r"float32 \[4, 1\]"),
        (lambda hidden: (hidden, hidden), r"float32 \[4\], float32 \[4\]"),
    ],
)
def test_a_head_of_another_dtype_or_shape_is_refused_in_one_line(logits, actual):
    hidden = jax.ShapeDtypeStruct((3, 4), jnp.float32)
    wanted = r"^Mine.head must return float32 logits \[vocabulary\] of one hidden "
    with pytest.raises(UserError, match=rf"{wanted}state \[width\]; got {actual}$"):
        Head(lambda params, variables: Mine(logits), [], [], hidden)
