"""A transformer that drafts: layers after its trunk predict tokens further ahead."""

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from models import checks
from models.attention import Attention
from models.base import REMAT, Batch, TrunkOutput, check_capture, check_remat
from models.drafting.layers import Draft
from models.transformer import Transformer

FORMS = ("recurrent", "sequential", "parallel")
PREFIX = "draft/"


def Drafted(
    *,
    model: Callable[..., Any],
    steps: int = 1,
    form: Literal["recurrent", "sequential", "parallel"] = "recurrent",
    of: Sequence[int] = (),
    states: Literal["trained", "constant"] = "trained",
    rngs: nnx.Rngs,
) -> Any:
    """Return `model` with `steps` decoder layers, or one, that draft further tokens.

    With h the state of a token that the head reads, E the embedding and n RMS norms,
    step j drafts the target after the next j from

        z_0 = h,  z_j(t) = layer_j(M_j [n(z_{j-1}(t)); n(E x_{t+j})], those before t)

    and the student's head over `n(z_j)` gives its logits. The model offers
    `draft/1` to `draft/K`, `[b t d]`, each moved to the token whose target it drafts
    (zero in the first j of a text), and `losses.Draft` reads them. They are computed
    where a term or a metric reads them; predictions, samples and what `runner-export`
    writes come without. Names of the trunk's parameters stay, those of the layers begin
    `draft/`.

    * `"sequential"`: a layer a step (DeepSeek-V3 2024, arXiv:2412.19437, eq. 21 to 23;
      embedding and head are shared there too).
    * `"recurrent"`: one layer, run again over its own states: the training-time test of
      EAGLE-3 (Li et al. 2025, arXiv:2503.01840, section 3.2). In step j it attends to
      the keys of the first step up to t, and to those of the later ones at t alone, as
      a drafter does whose trunk has read no further. The drafter there has a head of
      its own, over fewer tokens, and its released code multiplies queries, keys and
      values with `[n(z); n(e)]`; here M does, as in the paper.
    * `"parallel"`: a layer a step over h, and no tokens: multi-token prediction
      (Gloeckle et al. 2024, arXiv:2404.19737, section 2), of which the first head is
      the last layer of the student.

    Layers have the heads of the student's last one, a gated feed-forward layer, and no
    window. With `trainable=["draft/*"]` the student is a frozen target, as in EAGLE-3.
    `models.LoRA` goes around it and by itself trains adapters alone, so that the own
    weights of these layers would stay random: `trainable=["*/adapters/*", "draft/*"]`.

    Args:
      model: called with `rngs=`; a `Transformer` with plain heads.
      steps: K.
      form: of the layers.
      of: layers of the student whose states are joined, `h = F [z_0; z_2; ...]`, low,
        middle and high in EAGLE-3; none: what the head reads.
      states: whether the gradient of a draft goes on into h and E.
      rngs: of the initial values.

    Raises:
      ValueError: a number is out of its range, a word is none of these, or `model` is
        no such model, or has adapters.
    """
    checks.positive(steps=steps)
    checks.one_of("form", form, FORMS)
    checks.one_of("states", states, ("trained", "constant"))
    drafted: Any = model(rngs=rngs)
    if drafted.trainable is not None:
        raise ValueError("model has adapters already; let LoRA be around Drafted")
    layers, attention = _layers(drafted)
    if not isinstance(attention, Attention) or PREFIX + "1" in drafted.offers():
        raise ValueError(
            "model must be a models.Transformer with plain heads (latents=None) that "
            f"does not draft yet, got {type(drafted).__name__}"
        )
    for layer in of:
        if not 0 <= layer < layers:
            raise ValueError(f"of must name layers in 0..{layers - 1}, got {layer}")
    dim = drafted.embedding.shape[-1]
    if not of and drafted.dim != dim:
        raise ValueError("a student with head_rank needs `of`, layers to draft from")
    object.__setattr__(drafted, "__class__", _drafting(type(drafted)))
    drafted.drafts_from, drafted.draft_states = tuple(of), states
    drafted.draft = Draft(
        steps=steps,
        form=form,
        count=len(of),
        heads={
            "num_heads": attention.query.shape[-2],
            "num_kv_heads": attention.key.shape[-2],
            "head_dim": drafted.head_dim,
        },
        kind=drafted.attention_kinds[drafted.layer_kinds[-1]],
        dim=dim,
        dtype=drafted.dtype,
        param_dtype=str(jax.tree.leaves(nnx.state(drafted, nnx.Param))[0].dtype),
        rngs=rngs,
    )
    return drafted


def _layers(model: Any) -> tuple[int, Any]:
    """Return how many layers it has, and the attention of the last; 0 and None."""
    if not isinstance(model, Transformer):
        return 0, None
    return len(model.blocks), model.blocks.samples[-1].attention


@functools.cache
def _drafting(base: type[Transformer]) -> type[Transformer]:
    """Return the class of `base` that drafts: one for each, since nnx compares."""

    class Drafting(base):
        draft: Draft
        drafts_from: tuple[int, ...]
        draft_states: str

        def offers(self) -> frozenset[str]:
            return super().offers() | {
                f"{PREFIX}{j + 1}" for j in range(self.draft.steps)
            }

        def trunk(
            self,
            batch: Batch,
            *,
            capture: frozenset[str] = frozenset(),
            remat: str = "none",
        ) -> TrunkOutput:
            drafts = frozenset(p for p in capture if re.match(PREFIX, p))
            layers = [f"hidden/{i}" for i in self.drafts_from] if drafts else []
            own = capture - drafts
            outputs = super().trunk(batch, capture=own | set(layers), remat=remat)
            if not drafts:
                return outputs
            check_capture(capture, self.offers())
            states = outputs.hidden
            if layers:
                states = jnp.stack([outputs.intermediates[p] for p in layers], axis=2)
            model = self
            if self.draft_states == "constant":
                graph, arrays = nnx.split(self)
                model = nnx.merge(graph, jax.lax.stop_gradient(arrays))
                states = jax.lax.stop_gradient(states)
            count = max(int(path.removeprefix(PREFIX)) for path in drafts)
            wrap = REMAT[check_remat(remat)]
            every = self.draft.run(model, batch, states, count, wrap)
            captured = {path: outputs.intermediates[path] for path in own}
            for j, x in enumerate(every, start=1):
                if f"{PREFIX}{j}" in drafts:
                    captured[f"{PREFIX}{j}"] = self._moved(x, j, batch["positions"])
            return TrunkOutput(hidden=outputs.hidden, intermediates=captured)

        def _moved(self, x: jax.Array, steps: int, positions: jax.Array) -> jax.Array:
            """Return the states of step j at the tokens whose targets they draft."""
            if self.head_factor is not None:
                x = x @ self.head_factor[...].astype(self.dtype)
            there = (positions >= steps)[..., None]
            return jnp.where(there, jnp.roll(x, steps, axis=1), 0)

    Drafting.__name__, Drafting.__qualname__ = base.__name__, base.__qualname__
    return Drafting
