"""A model as a teacher: its trunk once a microbatch, its head a block at a time."""

import abc
from collections.abc import Callable
from typing import Any

import jax

import losses
from models.base import Batch, Model
from runner.errors import UserError
from runner.head.head import Head
from runner.head.vocab_partition import VocabPartition
from runner.teachers.base import LoadedTeacher, LogitTiles, TeacherTrunk

Tree = Any


class LoadedModel(LoadedTeacher):
    """A model over arrays that are frozen, or that follow the student.

    Args:
      make: `(params, variables) -> Model`.
      vocab_size: outputs beyond the tokenizer's ids are padding, and are cut off before
        the softmax.
    """

    def __init__(self, make: Callable[[Tree, Tree], Model], vocab_size: int):
        self.make, self._vocab_size = make, vocab_size

    @abc.abstractmethod
    def arrays(self, frozen: Tree, ema: Tree) -> Tree:
        """Return its `{"params": ..., "variables": ...}` among those of the step."""

    @abc.abstractmethod
    def abstract_model(self) -> Model:
        """Return the model, of shapes alone."""

    def model(self, frozen: Tree, ema: Tree) -> Model:
        """Return the model over the arrays of a step."""
        arrays = self.arrays(frozen, ema)
        return self.make(arrays["params"], arrays["variables"])

    def offers(self) -> frozenset[str]:
        return self.abstract_model().offers()

    def trunk(
        self,
        frozen: Tree,
        ema: Tree,
        batch: Batch,
        *,
        capture: frozenset[str],
        logits: bool,
    ) -> TeacherTrunk:
        arrays = self.arrays(frozen, ema)
        return _run_trunk(
            self.make,
            arrays["params"],
            arrays["variables"],
            batch,
            capture=capture,
            vocab_size=self._vocab_size if logits else None,
        )


def _run_trunk(
    make: Callable[[Tree, Tree], Model],
    params: Tree,
    variables: Tree,
    batch: Batch,
    *,
    capture: frozenset[str],
    vocab_size: int | None,
) -> TeacherTrunk:
    """Run the trunk of `make(params, variables)`; no logits without a size.

    Raises:
      UserError: the model cannot read such a batch.
    """
    params, variables = jax.lax.stop_gradient((params, variables))
    model = make(params, variables)
    try:
        model.check_batch(batch)
    except ValueError as error:
        raise UserError(f"teacher: {error}") from None

    # The trunk, once a microbatch; without a need for logits, nothing else.
    trunk = model.trunk(batch, capture=capture)
    tokens = {"hidden": trunk.hidden, "intermediates": dict(trunk.intermediates)}
    if vocab_size is None:
        tokens = {"intermediates": tokens["intermediates"]}
        return TeacherTrunk(tokens=tokens, head_params={}, outputs=_intermediates)

    # The head, a block of tokens at a time: whole rows, or tiles of the vocabulary.
    head = Head(make, params, variables, trunk.hidden)

    def outputs(head_params: Tree, tokens: Tree, batch: Batch) -> losses.TeacherOutputs:
        del batch
        logits = head(
            head_params["head"], tokens["hidden"], variables=head_params["variables"]
        )
        return losses.TeacherOutputs(
            logits=logits[..., :vocab_size], intermediates=tokens["intermediates"]
        )

    def logits(
        head_params: Tree,
        tokens: Tree,
        partition: VocabPartition,
        start: Any,
        width: int,
    ) -> jax.Array:
        leaves = head.tile(head_params["head"], partition, start, width)
        return head(leaves, tokens["hidden"], variables=head_params["variables"])

    tiles = LogitTiles(
        entries=head.num_outputs,
        width=vocab_size,
        outputs=_intermediates,
        logits=logits,
    )
    return TeacherTrunk(
        tokens=tokens,
        head_params={"head": head.leaves(params), "variables": variables},
        outputs=outputs,
        full_logits=True,
        tiles=tiles if head.tileable else None,
    )


def _intermediates(
    head_params: Tree, tokens: Tree, batch: Batch
) -> losses.TeacherOutputs:
    del head_params, batch
    return losses.TeacherOutputs(intermediates=tokens["intermediates"])
