"""What losses read of the routers of mixtures."""

import re
from typing import Any, Literal

import jax
import jax.numpy as jnp

from losses.core.outputs import Outputs

Layers = Literal["mean", "sum"]

_TEACHER = "teacher/"


def check_source(source: str) -> None:
    """Refuses what names no router.

    Raises:
      ValueError: it is no name, with or without `teacher/` before it.
    """
    if not re.fullmatch(rf"({_TEACHER})?[A-Za-z]\w*", source):
        raise ValueError(
            "source must name a router, such as 'router' or 'teacher/router', "
            f"got {source!r}"
        )


def check_choice(name: str, given: Any, choices: tuple[str, ...]) -> None:
    """Refuses what is none of the choices.

    Raises:
      ValueError: with all of them.
    """
    if given not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {given!r}")


def intermediate(outputs: Outputs, path: str) -> jax.Array:
    """The student's by its path, the teacher's by `teacher/` and its path."""
    if not path.startswith(_TEACHER):
        return outputs.intermediates[path]
    assert outputs.teacher is not None  # `needs` has asked for it
    return outputs.teacher.intermediates[path.removeprefix(_TEACHER)]


def over_layers(values: jax.Array, layers: Layers) -> jax.Array:
    """`[*b layer]` to `[*b]`."""
    return (jnp.mean if layers == "mean" else jnp.sum)(values, axis=-1)
