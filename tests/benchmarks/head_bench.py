"""The head, its losses and their gradients, over optax on full logits.

    make bench ONLY=head

N tokens of width D, a vocabulary of V: values, d hidden and d head, by the runner's own
step. Every way is held to the same value and gradients as full logits first. Then
rounds of both in turn, in one process, so that a busy machine slows both; medians
(min - max) of the ratio. FLOPs are those of the matmuls, from the jaxpr with loop trip
counts, over what has to be computed: 6 N D V, and 2 N D V of an online teacher. Memory
is what the compiler allocates for temporaries.
"""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import losses
from losses import LossTerm
from runner import runtime
from runner.head import flops
from runner.machine import heap
from tests import heads

ROUNDS = 5
SIZE = heads.Size(tokens=2048, dim=256, vocabulary=131_072)
ONLINE = SIZE._replace(teacher_dim=512)
RECORDS = SIZE._replace(best=64)
LEAN = runtime.Head(memory_budget=8 * 2**20)


class Case(NamedTuple):
    """A list of terms, how it is cut, what it is compared with, and its targets."""

    name: str
    size: heads.Size
    terms: Sequence[LossTerm]
    head: runtime.Head
    full: Callable[[jax.Array, jax.Array | None, Any], jax.Array]
    most_flops: float
    most_memory: float
    most_time: float


def labels(s, t, batch):
    """Cross-entropy and z-loss."""
    del t
    ce = optax.softmax_cross_entropy_with_integer_labels(s, batch["targets"])
    return ce + 1e-4 * jnp.square(jax.nn.logsumexp(s, axis=-1))


def forward_kl(s, t, batch):
    """Forward KL of whole logits."""
    del batch
    return optax.losses.kl_divergence(jax.nn.log_softmax(s), jax.nn.softmax(t))


def scattered_kl(s, t, batch):
    """Forward KL of the stored probabilities, scattered into `[N V]`."""
    del t
    rows = jnp.arange(s.shape[1])[:, None]
    chosen = jax.nn.softmax(batch["teacher/logits"][0])
    p = jnp.zeros(s.shape[1:]).at[rows, batch["teacher/indices"][0]].set(chosen)
    return optax.losses.kl_divergence(jax.nn.log_softmax(s), p[None])


def five(s, t, batch):
    """Cross-entropy, z-loss, both KLs and the entropy."""
    log_p, log_q = jax.nn.log_softmax(t), jax.nn.log_softmax(s)
    reverse = optax.losses.kl_divergence_with_log_targets(log_p, log_q)
    entropy = jnp.sum(jnp.exp(log_q) * log_q, axis=-1)
    return labels(s, t, batch) + forward_kl(s, t, batch) + 0.5 * reverse + 0.1 * entropy


LABELS = (
    LossTerm(name="ce", loss=losses.CrossEntropy()),
    LossTerm(name="z_loss", loss=losses.ZLoss(), weight=1e-4),
)
KL = (LossTerm(name="kl", loss=losses.ForwardKL()),)
BEST = (LossTerm(name="kl", loss=losses.ForwardKL(sparse="renormalize_teacher")),)
FIVE = (
    *LABELS,
    *KL,
    LossTerm(name="reverse", loss=losses.ReverseKL(), weight=0.5),
    LossTerm(name="entropy", loss=losses.ConfidencePenalty(), weight=0.1),
)


def blocks(tokens: int, *, sides: int = 1) -> runtime.Head:
    """Blocks of so many tokens."""
    return heads.in_blocks(tokens, SIZE.vocabulary, planes=sides)


CASES = [
    Case("CE + z", SIZE, LABELS, runtime.Head(), labels, 1.0, 0.035, 0.92),
    Case("CE + z, lean", SIZE, LABELS, LEAN, labels, 1.34, 0.01, 1.10),
    Case("KL, fast", ONLINE, KL, blocks(128, sides=2), forward_kl, 1.0, 0.05, 0.90),
    Case("KL, lean", ONLINE, KL, LEAN, forward_kl, 1.61, 0.01, 1.06),
    Case("KL, 64 stored", RECORDS, BEST, blocks(128), scattered_kl, 1.0, 0.05, 0.80),
    Case("five terms", ONLINE, FIVE, blocks(128, sides=2), five, 1.0, 0.07, 1.0),
]


class Found(NamedTuple):
    """Of one case: ratios to full logits, and the seconds of these."""

    flops: float
    memory: float
    wall: list[float]
    cpu: list[float]
    seconds: float


def main() -> None:
    """Prints one table, a case a row; `over` marks a target that is missed."""
    heap.keep_pages()
    print(f"N={SIZE.tokens}, D={SIZE.dim}, V={SIZE.vocabulary:,}, float32, ", end="")
    print(f"{ROUNDS} rounds, {jax.devices()[0].device_kind}")
    print(f"{'':<14}{'FLOPs':>14}{'temporaries':>16}{'processor':>30}{'wall':>22}")
    for case in CASES:
        found = measured(case)
        cpu = statistics.median(found.cpu)
        print(
            f"{case.name:<14}"
            f"{judged(found.flops, case.most_flops, '.2f'):>14}"
            f"{judged(found.memory, case.most_memory, '.3f'):>16}"
            f"{judged(cpu, case.most_time, '.2f') + ' ' + span(found.cpu):>30}"
            f"{statistics.median(found.wall):>8.2f} {span(found.wall)}"
            f"   of {found.seconds:.1f} s",
            flush=True,
        )


def measured(case: Case) -> Found:
    """The case against full logits, after both were held to the same gradients."""
    given = heads.content(case.size)
    arguments = (given["student"], given["teacher"], given["batch"])
    ways = {
        "full": heads.full(case.full),
        "ours": heads.step(case.size, case.terms, head=case.head),
    }
    compiled = {
        name: jax.jit(way).lower(*arguments).compile() for name, way in ways.items()
    }
    agree(compiled["full"](*arguments), compiled["ours"](*arguments))
    rounds = [
        {name: timed(way, arguments) for name, way in compiled.items()}
        for _ in range(ROUNDS)
    ]
    full, ours = (way.memory_analysis().temp_size_in_bytes for way in compiled.values())
    n, v = case.size.tokens, case.size.vocabulary
    least = n * v * (6 * case.size.dim + 2 * case.size.teacher_dim)
    return Found(
        flops=flops.matmul_flops(ways["ours"], *arguments) / least,
        memory=ours / full,
        wall=[x["ours"][0] / x["full"][0] for x in rounds],
        cpu=[x["ours"][1] / x["full"][1] for x in rounds],
        seconds=statistics.median(x["full"][0] for x in rounds),
    )


def agree(full: Any, ours: Any) -> None:
    """Refuses to time two ways of different values or gradients."""
    for a, b in zip(jax.tree.leaves(full), jax.tree.leaves(ours), strict=True):
        error = jnp.linalg.norm(jnp.ravel(a - b)) / jnp.linalg.norm(jnp.ravel(a))
        assert error < 2e-5, f"the two differ by a relative {error:.1e}"


def timed(way: Callable, arguments: tuple) -> tuple[float, float]:
    """Seconds on the clock, and of processor."""
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    jax.block_until_ready(way(*arguments))
    return time.perf_counter() - wall, time.process_time() - cpu


def judged(value: float, most: float, digits: str) -> str:
    """`value (<= most)`, or `over` where it is not."""
    sign = "<=" if value <= most + 1e-9 else "over"
    return f"{value:{digits}} ({sign} {most:g})"


def span(values: list[float]) -> str:
    """`(min - max)`."""
    return f"({min(values):.2f} - {max(values):.2f})"


if __name__ == "__main__":
    main()
