"""The matrices among a model's parameters, and which axes are their two sides."""

from typing import Any, NamedTuple

import jax

Tree = Any


class MatrixAxes(NamedTuple):
    """The axes of one matrix, from the end; any others number independent matrices.

    Attributes:
      inputs: axes that a product with the layer's input sums over.
      outputs: axes of the product.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


_PLAIN = MatrixAxes(inputs=(-2,), outputs=(-1,))
_INTO_HEADS = MatrixAxes(inputs=(-3,), outputs=(-2, -1))

_OF_BLOCKS = {
    "query": _INTO_HEADS,
    "key": _INTO_HEADS,
    "value": _INTO_HEADS,
    "output": MatrixAxes(inputs=(-3, -2), outputs=(-1,)),
    "gate": _PLAIN,
    "up": _PLAIN,
    "down": _PLAIN,
    "router": _PLAIN,
}
"""By the name of a parameter within `blocks`; experts and stacked layers come first."""


def matrix_axes(params: Tree) -> Tree:
    """Return the `MatrixAxes` of each parameter, None for all but matrices of blocks.

    Embeddings, heads, biases, norms and all that stands outside the blocks have None.
    """

    def axes(path: tuple[Any, ...], _: Any) -> MatrixAxes | None:
        names = path_names(path)
        return _OF_BLOCKS.get(names[-1]) if "blocks" in names[:-1] else None

    return jax.tree_util.tree_map_with_path(axes, params)


def path_names(path: tuple[Any, ...]) -> list[str]:
    """Return the keys of a path as strings."""
    return jax.tree_util.keystr(path, simple=True, separator="/").split("/")
