"""A teacher between the student and the real one."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from losses.core.checks import check_inner
from losses.core.loss import Loss
from losses.core.of_loss import OfLoss
from losses.core.outputs import IncompatibleLoss, Outputs, PerToken, RecordSpec
from losses.distillation.alignment import teacher_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interpolated(OfLoss):
    """`loss` of a teacher whose logits are `(1 - λ) s + λ t`, without a gradient in s.

    At λ = 1 it is `loss`; at 0 the student is its own teacher, and nothing is learnt.
    As λ rises the target leads from the student to the teacher:

        Scheduled(loss=Interpolated(), field="share", schedule=...)

    has it rise by the step alone; `TAID` has it rise by the loss, too. Where the widths
    differ, both are cut to the ids that both have. Wants whole rows.

    Source: Shing et al. 2025, TAID (arXiv:2501.16937), λ from 0.4 to 1.

    Attributes:
      loss: compares the student with a teacher; no means over the batch.
      share: λ.

    Raises:
      ValueError: λ is outside [0, 1], or `loss` reads no teacher or wants means.
    """

    loss: Loss
    share: float = 0.4
    tiled = False

    def __post_init__(self):
        check_inner(self, self.loss)
        if "teacher/logits" not in self.loss.needs:
            raise ValueError(
                f"loss of Interpolated must read a teacher's logits, and "
                f"{type(self.loss).__name__} does not"
            )
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"share must be in [0, 1], got {self.share}")

    def check_records(self, stored: RecordSpec) -> None:
        if stored.mode != "full":
            contents = "draws" if stored.mode == "sampled" else "the best entries"
            raise ValueError(
                f"Interpolated wants the teacher's whole logits, and the records hold "
                f"{contents}"
            )
        super().check_records(stored)

    def __call__(self, outputs: Outputs) -> PerToken:
        return self._with_share(outputs, self.share)

    def _with_share(
        self, outputs: Outputs, share: float | Float[Array, ""]
    ) -> PerToken:
        """Return the values at λ = `share`."""
        teacher = teacher_of(outputs)
        if teacher.logits is None or teacher.indices is not None:
            raise IncompatibleLoss("Interpolated wants the teacher's whole logits")
        width = min(outputs.num_outputs, teacher.logits.shape[-1])
        student = outputs.logits[..., :width]
        between = (1.0 - share) * student + share * teacher.logits[..., :width]
        teacher = dataclasses.replace(teacher, logits=jax.lax.stop_gradient(between))
        return self.loss(dataclasses.replace(outputs, logits=student, teacher=teacher))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TAID(Interpolated):
    """`loss` of a teacher between, whose λ rises as the loss J falls.

    After the batch of step n, with J_n its mean over the global batch,

        m  <-  β m + (1 - β) (J_{n-1} - J_n) / J_{n-1}
        λ  <-  min(end, max(λ_lin, λ + rate σ(m) (1 - λ)))

    and `λ_lin = share + (end - share) n / num_steps`, below which it never is. λ, m and
    J are in the train state. In an evaluation λ is `end`.

    Source: Shing et al. 2025, TAID (arXiv:2501.16937), algorithm 1, and its released
    code, in which the first batch leaves λ as it is; 0.4, 1, 5e-4 and 0.99 there.

    Attributes:
      loss: compares the student with a teacher; no means over the batch.
      share: λ at first.
      end: λ at the last step, at most.
      num_steps: of the training.
      rate: α, the most that λ rises beyond the steps.
      decay: β.

    Raises:
      ValueError: `loss` is none that `Interpolated` takes, λ does not rise within
        [0, 1], rate or decay is outside [0, 1], or there is no step.
    """

    num_steps: int
    end: float = 1.0
    rate: float = 5e-4
    decay: float = 0.99
    tiled = False

    def __post_init__(self):
        super().__post_init__()
        if not self.share <= self.end <= 1.0:
            raise ValueError(f"end must be in [share, 1], got {self.end}")
        for name in ("rate", "decay"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {self.num_steps}")

    def initial(self) -> Mapping[str, Float[Array, ""]]:
        first = {"share": self.share, "momentum": 0.0, "value": jnp.inf}
        return {name: jnp.float32(x) for name, x in first.items()}

    def remember(
        self,
        value: Float[Array, ""],
        memory: Mapping[str, Float[Array, ""]],
        step: Int[Array, ""],
    ) -> Mapping[str, Float[Array, ""]]:
        before, share = memory["value"], memory["share"]
        # A batch without a token to count has the value 0.
        some = jnp.isfinite(value) & (value > 0.0)
        measured = jnp.isfinite(before) & some
        safe = jnp.where(measured, before, 1.0)
        change = (safe - jnp.where(measured, value, 1.0)) / (safe + 1e-15)
        momentum = self.decay * memory["momentum"] + (1.0 - self.decay) * change
        done = jnp.minimum(step.astype(jnp.float32) / self.num_steps, 1.0)
        linear = self.share + (self.end - self.share) * done
        risen = share + self.rate * jax.nn.sigmoid(momentum) * (1.0 - share)
        risen = jnp.minimum(jnp.maximum(linear, risen), self.end)
        return {
            "share": jnp.where(measured, risen, share),
            "momentum": jnp.where(measured, momentum, memory["momentum"]),
            "value": jnp.where(some, value, before),
        }

    def __call__(self, outputs: Outputs) -> PerToken:
        return self._with_share(outputs, outputs.statistics.get("share", self.end))
