"""Matrix factorization: a vector a user, a vector an item."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from models import checks, sharding
from models.base import Batch, Model, TrunkOutput, check_capture
from models.initializers import Initializer, Normal
from models.kernels import projection

INIT = Normal(stddev=0.1)


class MatrixFactorization(Model):
    """Logits `<p_u, q_i>` of all items i, for the users u of a batch.

    The trunk looks a user up, the head is the table of items: losses read the logits of
    an item, of one that was not chosen (`losses.BPR`), or of all.

    Args:
      num_users: rows of p; a user beyond them has NaN.
      num_items: rows of q, number of logits.
      dim: of both.
      init: of both.
      rngs: of the initial values.

    Source: Koren, Bell & Volinsky 2009, Matrix factorization techniques for recommender
    systems, eq. 1; as of Rendle et al. 2009 (arXiv:1205.2618), section 4.3.1.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"users"})

    def __init__(
        self,
        *,
        num_users: int,
        num_items: int,
        dim: int = 64,
        init: Initializer = INIT,
        rngs: nnx.Rngs,
    ):
        checks.positive(num_users=num_users, num_items=num_items, dim=dim)
        self.dim, self.num_outputs, self.num_users = dim, num_items, num_users

        def table(rows: int, axis: str | None) -> nnx.Param:
            axes = (axis, "embed")
            return sharding.parameter(
                init, rngs, (rows, dim), axes=axes, dtype="float32"
            )

        self.users = table(num_users, None)
        self.items = table(num_items, "vocab")

    def trunk(
        self,
        batch: Batch,
        *,
        capture: frozenset[str] = frozenset(),
        remat: str = "none",
    ) -> TrunkOutput:
        """Look `users` `[*b]` up."""
        del remat
        check_capture(capture, self.offers())
        users = batch["users"]
        # -1 would be the last.
        beyond = jnp.where(users < 0, self.users.shape[0], users)
        table = sharding.constrain(self.users[...], (None, None))
        hidden = table.at[beyond].get(mode="fill", fill_value=jnp.nan)
        names = ("batch", *(None,) * (hidden.ndim - 1))
        return TrunkOutput(hidden=sharding.constrain(hidden, names), intermediates={})

    def head(self, hidden: jax.Array) -> jax.Array:
        """Return logits `[*b items]` of `[*b d]`."""
        logits = projection.logits(hidden, self.items[...], "float32")
        names = ("batch", *(None,) * logits.ndim)[: logits.ndim - 1]
        return sharding.constrain(logits, (*names, "vocab"))

    def offers(self) -> frozenset[str]:
        """Return none."""
        return frozenset()
