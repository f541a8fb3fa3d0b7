"""Stored arrays of a position's best entries, from their log-probabilities."""

import numpy as np

_MASS = 1e-3  # above 1, of entries in float32


def stored(
    ids: np.ndarray,
    log_p: np.ndarray,
    known: np.ndarray,
    *,
    temperature: float,
    rounding: float | None,
) -> dict[str, np.ndarray]:
    """Return the arrays of some rows, as `format.encode_batch` wants them.

    Args:
      ids: `[B T k]`, best first.
      log_p: `[B T k]`, their log-probabilities at `temperature`; of a position that is
        not known, anything finite.
      known: `[B T]`, the positions that were scored.
      temperature: At which they were taken.
      rounding: Relative error of a probability; None where the log-probabilities are
        not over the whole vocabulary.
    """
    relative = log_p - log_p[..., :1]
    arrays = {
        "indices": ids,
        "logits": (relative * temperature).astype(np.float32),
        "known": known,
    }
    if rounding is None:
        return arrays
    # Rounding leaves entries that hold everything with a rest it cannot tell.
    rest = np.log(np.maximum(1 - mass(log_p), 2 * rounding)) - log_p[..., 0]
    total = np.logaddexp(np.log(np.exp(relative).sum(-1)), rest)
    return arrays | {
        "log_normalizers": total[..., None],
        "log_rests": rest[..., None],
    }


def mass(log_p: np.ndarray) -> np.ndarray:
    """Return `[*b]` the probability of all entries; of one above 1 at most e."""
    return np.exp(np.minimum(log_p, 1.0)).sum(-1)


def largest_mass(rounding: float) -> float:
    """Return the most that entries of one softmax can have, rounding included."""
    return 1 + _MASS + 16 * rounding
