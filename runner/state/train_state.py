"""`TrainState`: a pytree of sharded arrays; module structure is kept outside."""

import dataclasses
from typing import Any

import jax

Tree = Any

AUTHOR = "author"
"""Entry of `TrainState.memory`: the older student that writes rows."""


@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that a step reads and writes, and a checkpoint holds.

    There is no key and no data position: both are functions of the seed and the step.

    Attributes:
      step: finished optimiser steps.
      params: {"student": ..., "losses": {term: ...}, "weights": {term: ...}}, trained.
      variables: the same layout without "weights", not trained.
      opt_state: of the optimiser.
      teacher: what follows the student, such as its average; `{}` for most teachers.
      memory: {"weights": {term: ...}, "tokens": {term: ...}}, and "losses" where any
        has some, of balances and
        reweightings; and {"author": {"params": ..., "variables": ...}} of the student
        that writes rows, where it is an older one.
    """

    step: jax.Array
    params: Tree
    variables: Tree
    opt_state: Tree
    teacher: Tree
    memory: Tree


jax.tree_util.register_dataclass(
    TrainState,
    data_fields=["step", "params", "variables", "opt_state", "teacher", "memory"],
    meta_fields=[],
)
