"""MaxText: full logits as by default, `num_vocab_tiling`, and its distillation loss.

The head is a plain `hidden @ kernel` in the module that vocabulary tiling asks for; of
the configuration it gets the entries that it reads. The final norm is left out.
"""

# MaxText is in .venv-peers, which the linters do not see.
# pyright: reportMissingImports=false

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from maxtext.common.common_types import ShardMode
from maxtext.utils import max_utils, vocabulary_tiling

from tests.peers.exact import Z_LOSS
from tests.peers.row import Row

TILES = (4, 16)


def rows() -> list[Row]:
    tiled = [
        Row(
            name=f"num_vocab_tiling={tiles}, cross-entropy, z-loss",
            package="maxtext",
            loss=functools.partial(tiled_cross_entropy, tiles=tiles),
            target="ce_z",
        )
        for tiles in TILES
    ]
    return [
        Row(
            name="num_vocab_tiling=1, cross-entropy, z-loss",
            package="maxtext",
            loss=cross_entropy,
            target="ce_z",
        ),
        *tiled,
        Row(
            name="CombinedDistillationStrategy, forward KL",
            package="maxtext",
            loss=distillation,
            target="kl",
        ),
    ]


class Head(nnx.Module):
    """Minimal model for `vocab_tiling_nnx_loss`."""

    def __init__(self, kernel: jax.Array):
        self.logits_dense = nnx.Param(kernel)
        self.mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))

    def logits_from_hidden_states_for_vocab_tiling(self, hidden, deterministic, mode):
        del deterministic, mode
        return hidden @ self.logits_dense[...]


def cross_entropy(hidden, head, labels, teacher_hidden, teacher_head):
    """As `loss_fn` of its pre-training calls it."""
    del teacher_hidden, teacher_head
    one_hot = jax.nn.one_hot(labels, head.shape[1])
    values, _ = max_utils.cross_entropy_with_logits(
        hidden @ head, one_hot, z_loss=Z_LOSS
    )
    return jnp.mean(values)


def tiled_cross_entropy(
    hidden, head, labels, teacher_hidden, teacher_head, *, tiles: int
):
    del teacher_hidden, teacher_head
    config = types.SimpleNamespace(
        debug_sharding=False,
        enable_dropout=False,
        num_vocab_tiling=tiles,
        shard_mode=ShardMode.AUTO,
        vocab_size=head.shape[1],
        vocab_tiling_ag_once=False,
        z_loss_multiplier=Z_LOSS,
    )
    data = {
        "targets": labels[None],
        "targets_segmentation": jnp.ones_like(labels[None]),
    }
    total, _ = vocabulary_tiling.vocab_tiling_nnx_loss(
        Head(head), hidden[None], data, config, is_train=True
    )
    return total / len(labels)


def distillation(hidden, head, labels, teacher_hidden, teacher_head):
    """Its metrics are dropped, and with them what XLA can leave out."""
    # Here, because it imports a trainer, and tiling should not fall with that.
    from maxtext.trainers.post_train.distillation import distillation_utils as theirs

    strategy = theirs.CombinedDistillationStrategy(
        student_forward_fn=lambda: None,
        teacher_forward_fn=lambda: None,
        pad_id=-1,
        temperature=1.0,
        alpha=1.0,
        vocab_size=head.shape[1],
    )
    loss, _ = strategy.compute_loss(
        theirs.DistillationForwardOutput(logits=(hidden @ head)[None]),
        theirs.DistillationForwardOutput(logits=(teacher_hidden @ teacher_head)[None]),
        strategy.create_labels(labels[None]),
    )
    return loss
