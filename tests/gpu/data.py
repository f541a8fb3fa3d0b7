"""Rows of random tokens and an untrained teacher: any vocabulary, and no files."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

import runner
from runner.data.text.document_ends import DocumentEnds
from runner.data.text.packed_text import pack
from runner.data.text.tokens import Tokens
from runner.data.text.vocabulary import Vocabulary
from runner.weights.base import Weights

ROWS = 64


@dataclasses.dataclass(frozen=True)
class RandomTokens(runner.data.DataSource):
    """Documents of random ids, a quarter of a row long on average.

    Attributes:
      vocab_size: number of ids.
      sequence_length: positions in a row.
      num_rows: rows that there are.
    """

    vocab_size: int
    sequence_length: int
    num_rows: int = ROWS

    def check(self) -> None:
        pass

    def load(self, *, cache: str = "") -> runner.data.Dataset:
        del cache
        words = {f"w{i}": i for i in range(self.vocab_size)}
        vocabulary = Vocabulary(
            tokenizer=Tokenizer(WordLevel(words, unk_token="w0")),
            pieces=[word.encode() for word in words],
            special=frozenset({0}),
            ends=DocumentEnds(begin=(), end=(0,)),
        )
        draw = np.random.default_rng(0)
        count = (self.num_rows + 1) * self.sequence_length
        lengths = draw.integers(1, self.sequence_length // 2, count)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        offsets = offsets[: np.searchsorted(offsets, count) + 1]
        return pack(
            Tokens(
                ids=draw.integers(1, self.vocab_size, offsets[-1]).astype(np.uint32),
                offsets=offsets,
                document_bytes=np.diff(offsets) * 4,
            ),
            vocabulary=vocabulary,
            sequence_length=self.sequence_length,
            documents="0" * 32,
            read=lambda: iter(()),
            description={},
        )


class FreshWeights(Weights):
    """Arrays of normal draws, in place of files."""

    digest = "0" * 32

    def check_vocabulary(self, vocabulary: Any, *, cache: str) -> None:
        del vocabulary, cache

    def tensors(self) -> Any:
        raise NotImplementedError

    def read(self, abstract: Any) -> Any:
        leaves, structure = jax.tree.flatten(abstract)

        def draw() -> list[jax.Array]:
            keys = jax.random.split(jax.random.key(1), len(leaves))
            return [
                0.05 * jax.random.normal(key, x.shape, jnp.float32).astype(x.dtype)
                for key, x in zip(keys, leaves, strict=True)
            ]

        shardings = [x.sharding for x in leaves]
        return jax.tree.unflatten(structure, jax.jit(draw, out_shardings=shardings)())


@dataclasses.dataclass(frozen=True, kw_only=True)
class UntrainedTeacher(runner.OnlineTeacher):
    """A teacher of fresh weights; `model` makes it."""

    checkpoint: str = "nowhere"

    def check(self) -> None:
        pass

    def _open(self) -> Weights:
        return FreshWeights()
