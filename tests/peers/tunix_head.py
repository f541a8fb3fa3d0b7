"""tunix: the default loss of its trainer, and its logit distillation strategy."""

# tunix is in .venv-peers, which the linters do not see.
# pyright: reportMissingImports=false

import jax
import jax.numpy as jnp
from tunix.distillation.strategies.logit import LogitStrategy
from tunix.sft import peft_trainer

from tests.peers.row import Row


def rows() -> list[Row]:
    return [
        Row(
            name="PeftTrainer's default, cross-entropy",
            package="google-tunix",
            loss=cross_entropy,
            target="ce",
        ),
        Row(
            name="LogitStrategy, forward KL",
            package="google-tunix",
            loss=distillation,
            target="kl",
        ),
    ]


def cross_entropy(hidden, head, labels, teacher_hidden, teacher_head):
    """It shifts by a token itself: one more goes in, and falls out again."""
    del teacher_hidden, teacher_head
    tokens = jnp.pad(labels, (1, 0))[None]
    logits = (jnp.pad(hidden, ((0, 1), (0, 0))) @ head)[None]
    return peft_trainer._default_loss_fn(
        lambda *_: (logits, None),
        input_tokens=tokens,
        input_mask=jnp.ones_like(tokens),
        positions=None,
        attention_mask=None,
    )


def distillation(hidden, head, labels, teacher_hidden, teacher_head):
    """Its metrics are dropped, and with them what XLA can leave out."""
    strategy = LogitStrategy(
        student_forward_fn=lambda: None,
        teacher_forward_fn=lambda: None,
        labels_fn=lambda: None,
        temperature=1.0,
        alpha=1.0,
    )
    loss, _ = strategy.compute_loss(
        student_output=hidden @ head,
        teacher_output=teacher_hidden @ teacher_head,
        labels=jax.nn.one_hot(labels, head.shape[1]),
    )
    return loss
