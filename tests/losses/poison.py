"""NaN and infinities where they must do no harm."""

import jax
import numpy as np

from tests.losses import table


def poisoned(floats, where, paths=None):
    """NaN, inf and -inf in turn at some tokens, in some arrays or in all."""

    def poison(x):
        wide = np.reshape(where, where.shape + (1,) * (x.ndim - where.ndim))
        values = np.resize(np.array([np.nan, np.inf, -np.inf], np.float32), x.shape)
        return np.where(wide, values, x)

    chosen = floats if paths is None else paths
    return floats | {path: poison(floats[path]) for path in chosen}


def sides(floats):
    """By side, what is poisoned, and the weights of a term that counts it unharmed."""
    theirs = [path for path in floats if path.startswith("teacher/")]
    ours = [path for path in floats if path not in (*theirs, "free")]
    return {
        "student": (ours, table.BESIDE_FREE),
        "teacher": (theirs, table.BESIDE_LABELS),
    }


def assert_clean(results, expected):
    """Finite, and equal bit for bit."""
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(results))
    jax.tree.map(np.testing.assert_array_equal, results, expected)
