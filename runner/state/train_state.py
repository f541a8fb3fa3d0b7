"""`TrainState`: a pytree of sharded arrays; module structure is kept outside."""

import dataclasses
from typing import Any

import jax

Tree = Any


@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything a step reads and writes; what a checkpoint holds.

    params:    {"student": ..., "losses": {term: ...}, "weights": {term: ...}}, trained.
    variables: the same layout without "weights", not trained.
    teacher:   what moves with the student, such as its average; `{}` for most.
    memory:    {"weights": {term: ...}, "tokens": {term: ...}}: what balances and
               reweightings remember.

    There is no key and no data position: both are functions of the seed and the step.
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
