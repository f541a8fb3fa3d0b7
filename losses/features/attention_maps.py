"""Attention-map distillation."""

import abc
import dataclasses

import jax.numpy as jnp

from losses.core.outputs import Outputs, PerToken
from losses.features.layer_pairs import MeanOverLayers
from losses.functional import attention
from losses.functional.attention import Rows, Scores, Visible


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionLoss(MeanOverLayers, abstract=True):
    """Base of distances between rows of scores, `[*b heads t]`, head h with head h.

    A key that either side may not see (padding, another document, a later token, one
    beyond its window) is left out. A subclass defines `row_distance`.
    """

    @property
    def path(self) -> str:
        return "attention"

    def layer_distance(
        self, student: Scores, teacher: Scores, outputs: Outputs
    ) -> PerToken:
        del outputs
        self.check_sizes(
            student,
            teacher,
            axis=-2,
            name="attention heads",
            remedy="losses.Relations compares any number of them",
        )
        visible = attention.visible_keys(student, teacher)
        return jnp.mean(self.row_distance(student, teacher, visible), axis=-1)

    @abc.abstractmethod
    def row_distance(self, student: Scores, teacher: Scores, visible: Visible) -> Rows:
        """Return the distance of each row, `[*b heads t]` each to `[*b heads]`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionKL(AttentionLoss):
    """`1/L Σ_i 1/H Σ_h KL(P_h ‖ S_h)`, nats, of the attention that a token pays.

    P and S are the teacher's and the student's softmax over the keys.

    Source: Wang et al. 2020, MiniLM (arXiv:2002.10957), eq. 7, of the last layer.
    """

    def row_distance(self, student: Scores, teacher: Scores, visible: Visible) -> Rows:
        return attention.row_kl(student, teacher, visible)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionMSE(AttentionLoss):
    """`1/L Σ_i 1/H Σ_h 1/n Σ_k (s_hk - t_hk)²`, of scores before the softmax.

    n is the number of keys that the token may see. A constant added to all scores of a
    row changes the value, although it does not change the attention.

    Source: Jiao et al. 2019, TinyBERT (arXiv:1909.10351), eq. 7, there over all keys of
    the padded sequence.
    """

    unit = "1"

    def row_distance(self, student: Scores, teacher: Scores, visible: Visible) -> Rows:
        return attention.row_mse(student, teacher, visible)
