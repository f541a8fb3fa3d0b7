"""tokamax: `linear_softmax_cross_entropy_loss`, each of its implementations."""

# tokamax is in .venv-peers, which the linters do not see.
# pyright: reportMissingImports=false

import functools

from tokamax import linear_softmax_cross_entropy_loss

from tests.peers.row import Row

IMPLEMENTATIONS = ("chunked_xla", "xla", "mosaic_tpu")


def rows() -> list[Row]:
    return [
        Row(
            name=f"{implementation}, cross-entropy",
            package="tokamax",
            loss=functools.partial(cross_entropy, implementation=implementation),
            target="ce",
        )
        for implementation in IMPLEMENTATIONS
    ]


def cross_entropy(
    hidden, head, labels, teacher_hidden, teacher_head, *, implementation: str
):
    del teacher_hidden, teacher_head
    return linear_softmax_cross_entropy_loss(
        hidden, labels, head, reduction="mean", implementation=implementation
    )
