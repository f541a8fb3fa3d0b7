"""Kernels that are a product of two factors, and some whole rows beside it."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from models import checks
from models.adapters.low_rank import Adapters
from models.base import Model
from models.latent_attention import LatentAttention
from models.lora import kernels
from models.lora.kernels import Kernel
from models.lora.path_patterns import Patterns
from models.mlp import ACTIVATIONS

EVERY = "*"


class Activated(nnx.Module):
    """`γ φ(x A) B`, what a kernel's factors add to its product where φ is between them.

    Args:
      a: A, `[inputs.. rank]`.
      b: B, `[rank outputs..]`.
      share: γ.
      activation: φ, a name in `models.mlp.ACTIVATIONS`.
    """

    def __init__(self, a: nnx.Param, b: nnx.Param, *, share: float, activation: str):
        self.a, self.b = a, b
        self.share, self.activation = share, activation

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return `[*b outputs..]` of `x [*b inputs..]`, in the type of `x`."""
        a, b = self.a[...].astype(x.dtype), self.b[...].astype(x.dtype)
        low = ACTIVATIONS[self.activation](jnp.tensordot(x, a, axes=a.ndim - 1))
        return jnp.tensordot(low, b, axes=1) * self.share


class LowRankSparse(nnx.Module):
    """`γ A B + (1 - γ) W_s`, where W_s is zero but for some rows; stands for a kernel.

    Args:
      a: A, `[inputs rank]`; None, and no B, where an `Activated` has both.
      b: B, `[rank outputs]`.
      rows: of W_s, `[channels outputs]`.
      channels: the inputs whose rows these are, `[channels]`.
      share: γ.
      shape: of the kernel.
    """

    def __init__(
        self,
        a: nnx.Param | None,
        b: nnx.Param | None,
        rows: nnx.Param,
        channels: nnx.Variable,
        *,
        share: float,
        shape: tuple[int, ...],
    ):
        self.a, self.b, self.rows, self.channels = a, b, rows, channels
        self.share, self.shape = share, shape

    def __getitem__(self, _: Any) -> jax.Array:
        """Return the kernel, in its shape."""
        sparse = (1.0 - self.share) * self.rows[...]
        if self.a is None or self.b is None:
            size = math.prod(self.shape) // sparse.shape[-1], sparse.shape[-1]
            low = jnp.zeros(size, sparse.dtype)
        else:
            low = self.share * (self.a[...] @ self.b[...])
        return low.at[self.channels[...]].add(sparse).reshape(self.shape)


def LOST(
    *,
    model: Callable[..., Model],
    rank: int,
    channels: float = 0.05,
    share: float = 0.5,
    activation: str | None = None,
    targets: Patterns = EVERY,
    rngs: nnx.Rngs,
) -> Model:
    """Return `model` with `γ φ(x A) B + (1 - γ) x W_s` in place of `x W`.

    Of the initial `W = U S Vᵀ`, `A = U_r √S_r` and `B = √S_r V_rᵀ`. W_s holds those
    rows of W, whole, that are longest (by l2) in what the first r singular vectors
    leave of it: `channels` of all, fixed from then on. A kernel `[n m]` has
    `r (n + m) + ⌊channels · n⌋ m` parameters. At full rank and `share = 1` it is the
    layer that it replaces, without φ.

    What is saved is parameters, gradients' moments and checkpoints; W_s, and without φ
    the product of the factors, is a whole kernel when it meets x, so that time is that
    of W and a little more. With φ the factors stand where adapters do, in
    `blocks/0/mlp/adapters/up/a` and `b`.

    Args:
      model: called with `rngs=`; its layers are separate.
      rank: r.
      channels: share of the inputs of a kernel with rows of their own; 0 for none.
      share: γ.
      activation: φ: `"silu"` (CoLA, arXiv:2502.10940) or another one of `MLP`'s; None
        for none.
      targets: patterns of the paths of kernels, as of `LoRA`: matrices of attention,
        feed-forward layers and routers; no embedding, and no head.
      rngs: of the initial values.

    Raises:
      ValueError: a number is out of its range, a pattern matches no kernel, a kernel is
        of many matrices at once (stacked layers, experts), or the model has adapters
        where the factors with φ would be.

    Source: Li et al. 2025, LOST (arXiv:2508.02668), γ 0.5 and 5 % of the channels, of
    which l2 is the better order there (perplexity 32.25 against 32.33).
    """
    checks.positive(rank=rank)
    for name, value in (("channels", channels), ("share", share)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} must be in [0, 1], got {value}")
    if activation is not None:
        checks.one_of("activation", activation, ACTIVATIONS)
    factored = model(rngs=rngs)
    if activation is not None and factored.trainable is not None:
        raise ValueError("model has adapters, where the activated factors would be")
    every = kernels.of(factored)
    for path in kernels.targeted(every, targets):
        kernel = every[path]
        if kernel.inputs[0]:
            raise ValueError(
                f"{path} holds many matrices: layers='separate', no experts"
            )
        if activation is not None and isinstance(kernel.owner, LatentAttention):
            raise ValueError(
                f"{path} is multiplied into the queries where a cache holds latents: "
                "an activation cannot be, so leave attention out of targets"
            )
        replaced = _factored(kernel, rank=rank, channels=channels, share=share)
        setattr(kernel.owner, kernel.name, replaced)
        if activation is not None:
            _activate(kernel, replaced, activation)
    return factored


def _activate(kernel: Kernel, factors: LowRankSparse, activation: str) -> None:
    """Move A and B from the kernel to what is added to its product."""
    shape, axes = kernel.param.shape, kernel.param.get_metadata()["axes"]
    end, a, b = kernel.inputs[1], factors.a, factors.b
    assert a is not None and b is not None
    a = nnx.Param(a[...].reshape(*shape[:end], -1), axes=(*axes[:end], None))
    b = nnx.Param(b[...].reshape(-1, *shape[end:]), axes=(None, *axes[end:]))
    factors.a = factors.b = None
    if kernel.owner.adapters is None:
        kernel.owner.adapters = Adapters()
    added = Activated(a, b, share=factors.share, activation=activation)
    setattr(kernel.owner.adapters, kernel.name, added)


def _factored(
    kernel: Kernel, *, rank: int, channels: float, share: float
) -> LowRankSparse:
    shape, axes = tuple(kernel.param.shape), kernel.param.get_metadata()["axes"]
    end = kernel.inputs[1]
    dtype = kernel.param.dtype
    whole = kernel.param[...].astype(jnp.float32)
    whole = whole.reshape(math.prod(shape[:end]), -1)
    u, s, v = jnp.linalg.svd(whole, full_matrices=False)
    rank = min(rank, s.shape[0])
    root = jnp.diag(jnp.sqrt(s[:rank]))
    a, b = u[:, :rank] @ root, root @ v[:rank]
    left = jnp.linalg.norm(whole - a @ b, axis=-1)
    _, longest = jax.lax.top_k(left, int(channels * whole.shape[0]))
    chosen = jnp.sort(longest)
    first, last = axes[0], axes[end]

    def parameter(x: jax.Array, *names: str | None) -> nnx.Param:
        return nnx.Param(x.astype(dtype), axes=names)

    return LowRankSparse(
        parameter(a, first, None),
        parameter(b, None, last),
        parameter(whole[chosen], None, last),
        nnx.Variable(chosen.astype(jnp.int32), axes=(None,)),
        share=share,
        shape=shape,
    )
