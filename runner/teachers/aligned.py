"""A teacher of another tokenizer over the same text: a model, or its records."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

import losses
from losses.functional.spans import before_last, sum_over_spans
from losses.functional.vocabulary import target_logits
from models.base import Batch
from runner import runtime
from runner.aligning.common_entries import CommonEntries
from runner.aligning.rows import PREFIX, RowAligner
from runner.data.dataset import Dataset
from runner.data.joined_rows import Arrays, Join, at_places, joined
from runner.data.source import DataSource
from runner.data.text.tokenizer import TokenizerSource
from runner.data.text.vocabulary import Vocabulary
from runner.errors import UserError, prefixed
from runner.head import plan
from runner.head.token_blocks import TokenBlocks
from runner.teachers.around import AroundTeacher, LoadedAround, require_model
from runner.teachers.base import LoadedTeacher, TeacherContext, TeacherTrunk
from runner.teachers.offline import LoadedRecords
from runner.teachers.recorded_spans import SUMS, LoadedRecordedSpans, packed

Tree = Any
_ROWS = ("tokens", "targets", "segment_ids", "positions")
LOGITS = frozenset({"spans/shared_logits", "spans/other_logits"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Aligned(AroundTeacher):
    """A teacher over the student's text in tokens of its own.

    Of a live one, each document of a row is encoded anew with the teacher's tokenizer,
    and both sides are cut into spans: text that begins and ends with tokens of both (by
    bytes; a special token of both, of one name, is a place of the text too). A term
    that reads the teacher counts one token a span, its first:

    * `SpanLikelihood` compares what both say of the whole span, exactly;
    * `ULD` and `HybridULD` compare distributions at the span's end, by rank;
    * losses of distributions (`ForwardKL`, ...) compare the first token, over the
      `best` tokens that both vocabularies have and a rest, as over records.

    Records (`OfflineTeacher`) were made of `data`: the same documents in the teacher's
    tokens. They are joined by document and byte, and give spans their probability, for
    `SpanLikelihood` alone; a token that is none of the stored entries counts as
    impossible, an error of less than the least entry's probability.

    `AlignedShare` measures how many tokens are in a span.

    Attributes:
      teacher: A model, or several combined, of the other vocabulary; or its records.
      tokenizer: Of the teacher; its ids are compared with those of the teacher's files.
      data: Rows that the records were made of; None for a live teacher.
      positions: Places in a row of the teacher's; None for those of the student and
        one more. A row that takes more is refused with their number.
      best: Shared entries of each token.
      temperatures: Those at which losses of distributions may read them.

    Raises:
      ValueError: A number is below 1, or a temperature not positive.
    """

    tokenizer: TokenizerSource
    data: DataSource | None = None
    positions: int | None = None
    best: int = 64
    temperatures: Sequence[float] = (1.0,)

    def __post_init__(self):
        for name in ("positions", "best"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not self.temperatures or not all(t > 0 for t in self.temperatures):
            raise ValueError(f"temperatures must be positive, got {self.temperatures}")

    def check(self) -> None:
        super().check()
        with prefixed("tokenizer"):
            self.tokenizer.check()
        if self.data is not None:
            with prefixed("data"):
                self.data.check()

    def identity(self) -> str:
        return self.teacher.identity()

    def load(self, context: TeacherContext) -> "LoadedAligned | LoadedRecordedSpans":
        student = context.vocabulary
        if not isinstance(student, Vocabulary):
            raise UserError("teacher: Aligned reads text, and the data is images")
        vocabulary = self.tokenizer.load(cache=context.cache)
        aligner = RowAligner(
            student=student,
            teacher=vocabulary,
            positions=self.positions or context.positions + 1,
        )
        own_context = dataclasses.replace(
            context,
            vocabulary=vocabulary,
            modules=None,
            positions=self.positions or context.positions,
        )
        loaded = self.teacher.load(own_context)
        if isinstance(loaded, LoadedRecords):
            return self._of_records(loaded, context)
        require_model(
            loaded,
            otherwise=f"{type(self.teacher).__name__} is of the student's tokens; "
            "wanted: a model, as OnlineTeacher, or its records (OfflineTeacher)",
        )
        entries = CommonEntries.of(
            aligner.shared,
            student=student.size,
            teacher=vocabulary.size,
            best=self.best,
            temperatures=tuple(float(t) for t in self.temperatures),
        )
        return LoadedAligned(loaded, aligner, entries, context.mesh)

    def _of_records(
        self, loaded: LoadedRecords, context: TeacherContext
    ) -> LoadedRecordedSpans:
        """Return what records say of spans.

        Raises:
          UserError: It is not known what rows they are of, or those are no packed text.
        """
        if self.data is None:
            raise UserError(
                "teacher: Aligned joins records by text: data=..., the rows in the "
                "teacher's tokens that they were made of"
            )
        with prefixed("data"):
            dataset = self.data.load(cache=context.cache)
        return LoadedRecordedSpans(loaded, packed(dataset, "the records' data"))


class LoadedAligned(LoadedAround):
    """A model over the teacher's rows, and where the student's tokens stand in them.

    Args:
      teacher: the model.
      aligner: makes its rows.
      entries: of distributions, over the shared tokens.
      mesh: devices of the run.
    """

    def __init__(
        self,
        teacher: LoadedTeacher,
        aligner: RowAligner,
        entries: CommonEntries,
        mesh: jax.sharding.Mesh,
    ):
        super().__init__(teacher)
        self._aligner, self._entries, self._mesh = aligner, entries, mesh
        self.stored = losses.RecordSpec(
            mode="top_k",
            temperatures=entries.temperatures,
            partial=True,
            remedy="Aligned(temperatures=",
        )

    def offers(self) -> frozenset[str]:
        return SUMS | LOGITS

    def describe(self) -> Mapping[str, Any]:
        return {
            "kind": "aligned",
            "teacher": dict(self.teacher.describe()),
            "vocabulary": self._aligner.teacher.describe(),
            "tokenizer": self._aligner.teacher.definition_digest,
        }

    def joins(self, dataset: Dataset) -> Sequence[Join]:
        dataset.require_fixed("teacher: Aligned encodes rows of the data")
        inner = super().joins(dataset)

        def align(rows: Arrays, numbers: np.ndarray) -> Arrays:
            arrays = self._aligner.align(rows, numbers)
            # A model joins nothing; it may ask something of the rows that it reads.
            joined(inner, {name: arrays[PREFIX + name] for name in _ROWS}, numbers)
            return arrays

        return [align]

    def trunk(
        self,
        frozen: Tree,
        ema: Tree,
        batch: Batch,
        *,
        capture: frozenset[str],
        logits: bool,
    ) -> TeacherTrunk:
        # The teacher's trunk over its own rows.
        own = {name: batch[PREFIX + name] for name in _ROWS}
        own["mask"] = own["segment_ids"] > 0
        trunk = self.teacher.trunk(frozen, ema, own, capture=frozenset(), logits=True)

        # What is wanted of it, at the student's tokens.
        tokens: dict[str, Tree] = {}
        if logits:
            tokens["first"] = at_places(trunk.tokens, batch[f"{PREFIX}first"])
        if capture & LOGITS:
            tokens["last"] = at_places(trunk.tokens, batch[f"{PREFIX}last"])
        if capture & SUMS:
            tokens["sums"] = self._sums(trunk, own, batch)
        return TeacherTrunk(
            tokens=tokens,
            head_params=trunk.head_params,
            outputs=functools.partial(self._outputs, trunk),
            full_logits=bool(logits or capture & LOGITS),
            width=self._aligner.teacher.size * len(tokens.keys() - {"sums"}),
        )

    def _outputs(
        self, trunk: TeacherTrunk, head_params: Tree, tokens: Tree, batch: Batch
    ) -> losses.TeacherOutputs:
        intermediates = dict(tokens.get("sums", {}))
        if "last" in tokens:
            whole = trunk.outputs(head_params, tokens["last"], batch).logits
            shared, other = self._entries.by_student(_float32(whole))
            intermediates |= {
                "spans/shared_logits": shared,
                "spans/other_logits": other,
            }
        if "first" not in tokens:
            return losses.TeacherOutputs(intermediates=intermediates)
        whole = trunk.outputs(head_params, tokens["first"], batch).logits
        entries = self._entries.best_of(_float32(whole))
        return dataclasses.replace(entries, intermediates=intermediates)

    def _sums(
        self, trunk: TeacherTrunk, own: Batch, batch: Batch
    ) -> dict[str, Float[Array, "b t"]]:
        """Return log-probabilities of each token's span, and of all but its last."""
        log_p = self._target_log_probabilities(trunk, own)
        own_spans, spans = batch[f"{PREFIX}own_spans"], batch[f"{PREFIX}spans"]
        before = jnp.where(before_last(own_spans), log_p, 0.0)
        return {
            "spans/log_probability": sum_over_spans(log_p, own_spans, spans),
            "spans/log_probability_before": sum_over_spans(before, own_spans, spans),
        }

    def _target_log_probabilities(
        self, trunk: TeacherTrunk, own: Batch
    ) -> Float[Array, "b u"]:
        """Return `log p_y` of the teacher's own tokens, nats, by blocks."""
        blocks = TokenBlocks(
            mesh=self._mesh,
            token_axes=own["tokens"].shape,
            size=plan.block_size(
                runtime.current().head, entries=self._aligner.teacher.size
            ),
        )

        def block(head_params: Tree, tokens: Tree) -> Float[Array, "*b"]:
            logits = _float32(trunk.outputs(head_params, tokens["trunk"], {}).logits)
            return _log_probability(logits, tokens["targets"])

        tokens = {"trunk": trunk.tokens, "targets": own["targets"]}
        return jax.lax.stop_gradient(blocks.map(block, trunk.head_params, tokens))


def _float32(logits: jax.Array | None) -> Float[Array, "*b w"]:
    assert logits is not None  # records are refused by `load`
    return logits.astype(jnp.float32)


def _log_probability(
    logits: Float[Array, "*b w"], targets: Int[Array, "*b"]
) -> Float[Array, "*b"]:
    return target_logits(logits, targets) - jax.nn.logsumexp(logits, axis=-1)
