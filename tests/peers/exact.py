"""The three losses and their gradients in float64 NumPy, from the formulas."""

from collections.abc import Iterator

import numpy as np

from tests.peers.row import Problem

Z_LOSS = 1e-4
BLOCK = 256  # tokens at a time: their float64 logits are 0.3 GB
Result = tuple[float, np.ndarray, np.ndarray]


def exact(problem: Problem) -> dict[str, Result]:
    """Return `(loss, d hidden, d head)` by loss."""
    sums = {name: _Sum(problem) for name in ("ce", "ce_z", "kl")}
    for rows, logits, teacher in _blocks(problem):
        labels = np.asarray(problem.labels)[rows]
        at = (np.arange(len(labels)), labels)
        log_z = _logsumexp(logits)
        p = np.exp(logits - log_z[:, None])
        q_log_z = _logsumexp(teacher)
        q = np.exp(teacher - q_log_z[:, None])
        # With sum q = 1: sum q (log q - log p) = sum q (t - s) - log Z_q + log Z_p.
        kl = np.einsum("nv,nv->n", q, teacher - logits) - q_log_z + log_z
        sums["kl"].add(rows, kl, p - q)
        ce = log_z - logits[at]
        p[at] -= 1
        sums["ce"].add(rows, ce, p)
        p[at] += 1
        p *= (1 + 2 * Z_LOSS * log_z)[:, None]
        p[at] -= 1
        sums["ce_z"].add(rows, ce + Z_LOSS * log_z**2, p)
    return {name: total.mean() for name, total in sums.items()}


def errors(result: tuple, expected: Result) -> tuple[float, float]:
    """Return relative errors: of the loss, and of the worse of the two gradients."""
    loss, *gradients = (
        float(np.linalg.norm(np.asarray(a) - b) / np.linalg.norm(b))
        for a, b in zip(result, expected, strict=True)
    )
    return loss, max(gradients)


class _Sum:
    """Losses and gradients of the blocks so far."""

    def __init__(self, problem: Problem):
        self._hidden = np.asarray(problem.hidden, np.float64)
        self._head = np.asarray(problem.head, np.float64)
        self._loss = 0.0
        self._d_hidden = np.zeros_like(self._hidden)
        self._d_head = np.zeros_like(self._head)

    def add(self, rows: slice, losses: np.ndarray, d_logits: np.ndarray) -> None:
        self._loss += losses.sum()
        self._d_hidden[rows] = d_logits @ self._head.T
        self._d_head += self._hidden[rows].T @ d_logits

    def mean(self) -> Result:
        n = len(self._hidden)
        return self._loss / n, self._d_hidden / n, self._d_head / n


def _blocks(problem: Problem) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yield rows, and the logits of student and teacher there."""
    wide = problem._replace(
        **{
            name: np.asarray(values, np.float64)
            for name, values in problem._asdict().items()
            if name != "labels"
        }
    )
    for start in range(0, len(wide.hidden), BLOCK):
        rows = slice(start, start + BLOCK)
        teacher = wide.teacher_hidden[rows] @ wide.teacher_head
        yield rows, wide.hidden[rows] @ wide.head, teacher


def _logsumexp(logits: np.ndarray) -> np.ndarray:
    most = logits.max(axis=-1)
    return most + np.log(np.exp(logits - most[:, None]).sum(axis=-1))
