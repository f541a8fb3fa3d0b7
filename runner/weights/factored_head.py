"""A head in two factors: begun as the best of their rank, and made one matrix again.

`logits = (h F) Oᵀ` with `F [d r]` and `O [v r]`. Of a head `W [v d] = U S Vᵀ` the best
product of rank r, by the sum of squares, is that of the r largest singular values
(Eckart and Young 1936): `F = V_r S_r^½`, `O = U_r S_r^½`.
"""

import functools

import numpy as np

from runner.weights.adapters import Merged
from runner.weights.tensors import StoredTensor, Tensors

FACTOR, TABLE = "head_factor", "output"
_ROWS_AT_A_TIME = 4096


def begun(tensors: Tensors, *, rank: int) -> Tensors:
    """Return tensors with the head in two factors; nothing is read.

    Args:
      tensors: with a head of its own, of one matrix.
      rank: of the factors; at most the width of the head.
    """
    table = tensors[TABLE]
    vocabulary, width = table.shape
    read = functools.cache(lambda: factors(table.read(), rank))
    single = np.dtype(np.float32)

    def part(shape: tuple[int, ...], index: int) -> StoredTensor:
        return StoredTensor(shape, single, lambda: read()[index], cut_from=table.shape)

    return {
        **tensors,
        FACTOR: part((width, rank), 0),
        TABLE: part((vocabulary, rank), 1),
    }


def factors(table: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `F [d r]` and `O [v r]` of a head `[v d]`, float32.

    From the eigenvectors of `WᵀW` in float64: no matrix of the vocabulary's size is
    made but `O`.
    """
    width = table.shape[1]
    gram = np.zeros((width, width))
    blocks = range(0, len(table), _ROWS_AT_A_TIME)
    for begin in blocks:
        rows = table[begin : begin + _ROWS_AT_A_TIME].astype(np.float64)
        gram += rows.T @ rows
    squares, vectors = np.linalg.eigh(gram)  # ascending
    largest = np.argsort(-squares, kind="stable")[:rank]
    root = np.maximum(squares[largest], 0.0) ** 0.25  # of the singular values
    factor = vectors[:, largest] * root
    inverse = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
    into = (vectors[:, largest] * inverse).astype(np.float32)
    output = np.empty((len(table), rank), np.float32)
    for begin in blocks:
        rows = slice(begin, begin + _ROWS_AT_A_TIME)
        output[rows] = table[rows].astype(np.float32) @ into
    return factor.astype(np.float32), output


def merged(whole: Merged) -> Merged:
    """Return a model whose head is one matrix, `O Fᵀ` in float32; nothing is read."""
    if FACTOR not in whole.tensors:
        return whole
    factor, table = whole.tensors[FACTOR], whole.tensors[TABLE]

    def read() -> np.ndarray:
        product = table.read().astype(np.float32) @ factor.read().astype(np.float32).T
        return product.astype(table.dtype)

    plain = {path: x for path, x in whole.tensors.items() if path != FACTOR}
    shape = (table.shape[0], factor.shape[0])
    plain[TABLE] = StoredTensor(shape, table.dtype, read)
    return Merged(functools.partial(whole.model, head_rank=None), plain)
