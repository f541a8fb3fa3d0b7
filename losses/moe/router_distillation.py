"""Distillation of a mixture's routers into another mixture's."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from losses.core.loss import Loss
from losses.core.masks import token_mask
from losses.core.outputs import IncompatibleLoss, Outputs, PerToken
from losses.distillation.divergence import check_temperature
from losses.features.layer_pairs import check_pairs
from losses.functional.routers import router_distillation

LOGITS = "router_logits"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RouterDistillation(Loss):
    """`1/L Σ_i KL(p_{f(i)} ‖ q_i)`, nats, the mean over the student's layers i.

    `p_j = softmax(t_j / T)` is the teacher's router in its layer j, `q_i` the student's
    in its layer i, both over all experts. The student learns how the teacher parts the
    tokens. Its own experts have no part in this: where they start at random, expert e
    becomes the one that serves what the teacher's e does. Counts every token that is
    not padding.

    Attributes:
      temperature: T, of both sides.
      layers: pairs of the student's MoE layer and the teacher's, `(i, f(i))`, counted
        from 0; None where both have as many and i learns from i.

    Source: none to the letter. Closest are B-Distill ("Balanced Knowledge Distillation
    for Large Language Models with Mix-of-Experts", 2026), which holds the balance of
    the student's router to the teacher's, and "Teacher-Guided Routing for Sparse Vision
    Mixture-of-Experts" (CVPR 2026), whose teacher router is made for a dense teacher.
    MaxText (pull 4037) logs how far the two routers agree and trains on nothing of it.

    Raises:
      ValueError: the temperature is not positive, or layers are no pairs of numbers.
    """

    temperature: float = 1.0
    layers: Sequence[tuple[int, int]] | None = None

    default_mask = staticmethod(token_mask)

    def __post_init__(self):
        check_temperature(self.temperature)
        if self.layers is not None:
            check_pairs(self.layers)

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - a field decides
        if self.layers is None:
            return frozenset({LOGITS, f"teacher/{LOGITS}"})
        ours = {f"{LOGITS}/{i}" for i, _ in self.layers}
        return frozenset(ours | {f"teacher/{LOGITS}/{j}" for _, j in self.layers})

    def __call__(self, outputs: Outputs) -> PerToken:
        return router_distillation(*self._logits(outputs), self.temperature)

    def _logits(
        self, outputs: Outputs
    ) -> tuple[Float[Array, "*b layer expert"], Float[Array, "*b layer expert"]]:
        """Return the router logits of student and teacher, layer by layer.

        Raises:
          IncompatibleLoss: they differ in experts, or in layers where none are paired.
        """
        # All layers in order, or the pairs that were asked for.
        if self.layers is None:
            student = outputs.intermediate(LOGITS)
            teacher = outputs.intermediate(f"teacher/{LOGITS}")
        else:
            student, teacher = (
                jnp.stack([outputs.intermediate(path) for path in paths], -2)
                for paths in zip(
                    *(
                        (f"{LOGITS}/{i}", f"teacher/{LOGITS}/{j}")
                        for i, j in self.layers
                    ),
                    strict=True,
                )
            )

        # A router learns from one of the same shape.
        for name, axis, remedy in (
            ("experts", -1, "a router can only learn from one over as many"),
            ("MoE layers", -2, "pair them: layers=((0, 1), (1, 3))"),
        ):
            ours, theirs = student.shape[axis], teacher.shape[axis]
            if ours != theirs:
                raise IncompatibleLoss(
                    f"RouterDistillation: the student has {ours} {name} and the "
                    f"teacher {theirs}; {remedy}"
                )
        return student, teacher
