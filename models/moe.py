"""Token-choice mixture of experts, dropless."""

import functools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec

from models import biased_experts, checks, sharding
from models.adapters.low_rank import Adapters
from models.base import ROUTER_EMBEDDING, Configurable
from models.biased_experts import Gating
from models.initializers import FAN_IN, SMALL, Initializer, Scaled
from models.kernels import expert_slots, grouped
from models.kernels.grouped import Activation, Weights
from models.mlp import ACTIVATIONS, GatedMLP, gated_width
from models.routing import fields
from models.routing.expert_bias import ExpertBias
from models.routing.scores import Routing

MOST_BEYOND = 128
"""Most rows that the loop over experts beyond their slots multiplies at a time."""


class MoE(Configurable):
    """`Σ_{e in top-k} p_e · expert_e(x)` plus the shared experts, `p = softmax(x R)`.

    Router, softmax and gates are float32. No capacity, so no token is dropped, and a
    token's result does not depend on its neighbours. Equal logits go to the expert with
    the lower number.

    Args:
      dim: width of inputs and outputs.
      num_experts: routed experts.
      experts_per_token: k.
      hidden_dim: inner width of one expert; None is that of a dense `GatedMLP`.
      num_shared_experts: experts that see every token, with gate 1, run as one
        `GatedMLP` of that many times the width (DeepSeekMoE, arXiv:2401.06066,
        equation 9).
      shared_gate: what the shared experts give is multiplied by `sigmoid(x w)` of the
        token (Qwen2-MoE, arXiv:2407.10671, section 2.2.2).
      renormalize: divide the gates of a token by their sum (Mixtral, Qwen3), so that
        the router learns from comparing the chosen experts only.
      routing: other scores than a softmax, groups of experts, a scale of gates
        (DeepSeek-V3); None is as above.
      bias_rate: experts are chosen by `p + b`, and after each step b moves by so much
        towards those that got too few tokens (`ExpertBias`), which balances the
        load without a loss; gates are still `p`. 0 is no bias.
      activation: a name in `models.mlp.ACTIVATIONS`.
      biases: of the router and of each expert's products (gpt-oss).
      clamp: bound of what an expert multiplies, as `biased_experts.Gating` has it; None
        is none. It needs `biases`.
      init: of the experts' kernels.
      router_init: of the router.
      output_scale: factor on the initial values of the experts' last kernels.
      dtype: type of the experts' products.
      param_dtype: type of the parameters.
      rngs: of the initial values.

    Attributes:
      intermediates: `router_logits` `[*b expert]` float32, `router_assignments`
        `[*b k]`, and `router_embedding` `[*b d]` float32, which is made where it is
        captured.

    Raises:
      ValueError: for one expert per token with renormalized gates: each would be 1,
        and the router would have no gradient.
    """

    intermediates: ClassVar[frozenset[str]] = frozenset(
        {"router_logits", "router_assignments", ROUTER_EMBEDDING}
    )
    adapters: Adapters | None = None

    def __init__(
        self,
        *,
        dim: int,
        num_experts: int = 8,
        experts_per_token: int = 2,
        hidden_dim: int | None = None,
        num_shared_experts: int = 0,
        shared_gate: bool = False,
        renormalize: bool = False,
        routing: Routing | None = None,
        bias_rate: float = 0.0,
        activation: str = "silu",
        biases: bool = False,
        clamp: float | None = None,
        init: Initializer = FAN_IN,
        router_init: Initializer = SMALL,
        output_scale: float = 1.0,
        dtype: str = "float32",
        param_dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        hidden_dim = gated_width(dim) if hidden_dim is None else hidden_dim
        checks.positive(num_experts=num_experts, hidden_dim=hidden_dim, clamp=clamp)
        checks.not_negative(num_shared_experts=num_shared_experts, bias_rate=bias_rate)
        fields.check_chosen(experts_per_token, num_experts, renormalize, routing)
        fields.check_parts(num_shared_experts, shared_gate, clamp, biases)
        self.experts_per_token = experts_per_token
        self.routing = routing
        self.clamp = clamp
        self.renormalize = renormalize
        self.activation = checks.one_of("activation", activation, ACTIVATIONS)
        self.dtype = dtype

        def expert_kernel(init, inputs, outputs, axes):
            return sharding.parameter(
                init,
                rngs,
                (num_experts, inputs, outputs),
                axes=("expert", *axes),
                dtype=param_dtype,
                fan=(inputs, outputs),
            )

        def expert_bias(axis, *width):
            axes = ("expert", axis) if width else (None,)
            zeros, shape = jax.nn.initializers.zeros, (num_experts, *width)
            return sharding.parameter(zeros, rngs, shape, axes=axes, dtype=param_dtype)

        # Router: every device reads the columns of all experts.
        self.router = sharding.parameter(
            router_init,
            rngs,
            (dim, num_experts),
            axes=("embed", None),
            dtype=param_dtype,
        )
        has_bias = bias_rate or (routing and routing.bias)
        self.bias = ExpertBias.zeros(num_experts, rate=bias_rate) if has_bias else None
        # Routed experts, stacked along their first axis; then the shared ones.
        self.gate = expert_kernel(init, dim, hidden_dim, ("embed", "mlp"))
        self.up = expert_kernel(init, dim, hidden_dim, ("embed", "mlp"))
        self.down = expert_kernel(
            Scaled(init, output_scale), hidden_dim, dim, ("mlp", "embed")
        )
        self.shared = (
            GatedMLP(
                dim=dim,
                hidden_dim=num_shared_experts * hidden_dim,
                activation=activation,
                init=init,
                output_scale=output_scale,
                dtype=dtype,
                param_dtype=param_dtype,
                rngs=rngs,
            )
            if num_shared_experts
            else None
        )
        self.router_bias = expert_bias(None) if biases else None
        self.gate_bias = expert_bias("mlp", hidden_dim) if biases else None
        self.up_bias = expert_bias("mlp", hidden_dim) if biases else None
        self.down_bias = expert_bias(None, dim) if biases else None
        self.shared_gate = (
            sharding.parameter(
                router_init, rngs, (dim, 1), axes=("embed", None), dtype=param_dtype
            )
            if shared_gate
            else None
        )

    def __call__(self, x: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return `[b t d]` of `x [b t d]`, and the router's logits and choices."""
        logits, gates, chosen = self.route(x)
        gate, up, down = self.gate[...], self.up[...], self.down[...]
        if self.adapters is not None:
            gate = self.adapters.merged("gate", gate)
            up = self.adapters.merged("up", up)
            down = self.adapters.merged("down", down)
        gate, up, down = (w.astype(self.dtype) for w in (gate, up, down))
        weights = gate, up, down
        activation = ACTIVATIONS[self.activation]
        if self.gate_bias is not None:
            weights, activation = self._biased(weights), Gating(activation, self.clamp)
        y = parallel_experts(x, gates, chosen, weights, activation=activation)
        if self.shared is not None:
            y = y + self._gated(x, self.shared(x)[0])
        return y, {"router_logits": logits, "router_assignments": chosen}

    def _biased(self, weights: Weights) -> Weights:
        biases = (self.gate_bias, self.up_bias, self.down_bias)
        return (*weights, *(b[...].astype(self.dtype) for b in biases if b is not None))

    def _gated(self, x: jax.Array, y: jax.Array) -> jax.Array:
        """Return what the shared experts give, `y [b t d]` of `x [b t d]`."""
        if self.shared_gate is None:
            return y
        gate = self.shared_gate[...].astype(jnp.float32)
        logit = jnp.einsum("...d,de->...e", x.astype(jnp.float32), gate)
        return y * jax.nn.sigmoid(logit).astype(y.dtype)

    def route(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return logits `[*b expert]`, gates and experts `[*b k]`, best first."""
        router = self.router[...].astype(jnp.float32)
        x = x.astype(jnp.float32)
        logits = jnp.einsum("...d,de->...e", x, router)
        if self.adapters is not None:
            logits = self.adapters.add("router", x, logits)
        if self.router_bias is not None:
            bias = self.router_bias[...].astype(jnp.float32)
            logits = logits + jnp.broadcast_to(bias, logits.shape)
        return logits, *self.choose(logits)

    def router_embedding(self, logits: jax.Array) -> jax.Array:
        """Return `Σ_k g_k W_k`, `[*b d]`: columns of the router by gates."""
        gates, chosen = self.choose(logits)
        hits = jax.nn.one_hot(chosen, logits.shape[-1], dtype=jnp.float32)
        shares = jnp.einsum("...k,...ke->...e", gates.astype(jnp.float32), hits)
        router = self.router[...].astype(jnp.float32)
        return jnp.einsum("...e,de->...d", shares, router)

    def choose(self, logits: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return gates and experts `[*b k]`, best first, of logits `[*b expert]`."""
        bias = None if self.bias is None else self.bias[...]
        if self.routing is not None:
            k, renormalize = self.experts_per_token, self.renormalize
            return self.routing.choose(logits, bias, k, renormalize)
        scores = jax.nn.softmax(logits)
        gates, chosen = jax.lax.top_k(scores, self.experts_per_token)
        if bias is not None:
            biased = scores + jnp.broadcast_to(bias, scores.shape)
            _, chosen = jax.lax.top_k(biased, self.experts_per_token)
            gates = jnp.take_along_axis(scores, chosen, axis=-1)
        if self.renormalize:
            gates = gates / jnp.sum(gates, axis=-1, keepdims=True)
        return gates, chosen


def parallel_experts(
    x: jax.Array,
    gates: jax.Array,
    chosen: jax.Array,
    weights: Weights,
    *,
    activation: Activation | Gating,
) -> jax.Array:
    """Run `experts` over the mesh in force, `x [b t d]`.

    Each device sorts its own tokens. Where the experts are spread over a mesh axis, the
    devices along it gather each other's tokens, run the experts they hold and
    scatter the sums back; this needs no bound on how many tokens an expert gets. The
    tensor axis stays with the compiler.
    """
    context = sharding.current()

    # On one device, or inside another `shard_map`: no communication.
    def local(x, gates, chosen, weights, parts=1):
        tokens, gates, chosen = (a.reshape(-1, a.shape[-1]) for a in (x, gates, chosen))
        y = experts(tokens, gates, chosen, weights, activation=activation, parts=parts)
        return y.reshape(x.shape)

    if context is None or jax.sharding.get_abstract_mesh().manual_axes:
        return local(x, gates, chosen, weights)
    batch_axes = sharding.mesh_axes("batch", x.shape[0], context)
    expert_axes = sharding.mesh_axes("expert", weights[0].shape[0], context)
    if not batch_axes or not set(expert_axes) <= set(batch_axes):
        # Too few rows to give each device some: the compiler's placement is right, if
        # not fast.
        return local(x, gates, chosen, weights)

    def on_device(x, gates, chosen, weights):
        weights = tuple(sharding.vary(w, batch_axes) for w in weights)
        if not expert_axes:
            return local(x, gates, chosen, weights)
        # Tokens of all devices along the axis, sent to the experts of this one.
        gather = functools.partial(
            jax.lax.all_gather, axis_name=expert_axes, axis=0, tiled=True
        )
        first = jax.lax.axis_index(expert_axes) * weights[0].shape[0]
        parts = jax.lax.axis_size(expert_axes)
        y = local(gather(x), gather(gates), gather(chosen) - first, weights, parts)
        return jax.lax.psum_scatter(y, expert_axes, scatter_dimension=0, tiled=True)

    by_row = PartitionSpec(batch_axes)
    by_expert = PartitionSpec(expert_axes or None)
    return jax.shard_map(
        on_device,
        mesh=context.mesh,
        in_specs=(by_row, by_row, by_row, (by_expert,) * len(weights)),
        out_specs=by_row,
        axis_names=set(batch_axes),
    )(x, gates, chosen, weights)


def experts(
    x: jax.Array,
    gates: jax.Array,
    chosen: jax.Array,
    weights: Weights,
    *,
    activation: Activation | Gating,
    parts: int = 1,
) -> jax.Array:
    """Return `Σ_j gate_j · expert_{chosen_j}(x)`: `x [n d]`, gates and choices `[n k]`.

    Choices of experts that `weights` do not hold add nothing; `weights` are one of
    `parts` of all experts.

    The form is the one that multiplies the fewest rows: all experts on all tokens
    (`n · experts` rows: few tokens, or nearly all experts chosen), else the tokens
    sorted by expert (`n · k` rows and some filler). On one shared CPU core, float32,
    forward and backward in ms of processor time (several runs, so no more than an order
    of the forms), for n, dim, experts, k, width:

        2048 256 8 2 256    dense 285    ragged_dot 386    slots 57
        1024 192 8 1 512    dense 261    ragged_dot 151    slots 27
        2048 256 4 1 512    dense 223    ragged_dot 187    slots 59

    `ragged_dot` on a CPU multiplies every row with every expert, so there the experts
    have slots of their own (`expert_slots`); everywhere else it runs the sorted rows.
    """
    if isinstance(activation, Gating):
        return biased_experts.experts(x, gates, chosen, weights, activation)
    tokens, k = chosen.shape
    num_experts = weights[0].shape[0]
    share = max(1, tokens * k // (num_experts * parts))
    slots = capacity(share)
    if tokens <= slots:
        return dense(x, gates, chosen, weights, activation)
    arrange = functools.partial(grouped.arrange, chosen, num_experts=num_experts)
    if sharding.platform() == "cpu":
        block = min(max(8, share // 4), MOST_BEYOND)
        layout = arrange(block=block, capacity=slots)
        choices = expert_slots.run(x, weights, layout, activation)
        return grouped.gated_sum(choices, gates).astype(x.dtype)
    layout = arrange(block=1)
    rows = grouped.ragged(grouped.to_rows(x, layout), weights, layout, activation)
    return grouped.from_rows(rows, gates, layout).astype(x.dtype)


def capacity(share: int) -> int:
    """Return the slots of an expert that is chosen `share` times where all are equal.

    One deviation of the counts of a random router more: a slot that stays empty is
    multiplied too, and a choice without one costs a trip of a loop.
    """
    return -(-(share + math.isqrt(share)) // 8) * 8


def dense(
    x: jax.Array,
    gates: jax.Array,
    chosen: jax.Array,
    weights: Weights,
    activation: Activation,
) -> jax.Array:
    """Return the same as `experts`, by running each expert on each token."""
    gate, up, down = weights
    one_hot = jax.nn.one_hot(chosen, gate.shape[0], dtype=jnp.float32)
    expert_gates = jnp.sum(one_hot * gates[..., None], axis=1)
    # A batch of products, one an expert: on a CPU half the time of one product whose
    # result is spread over the experts.
    copies = jnp.broadcast_to(x, (gate.shape[0], *x.shape))
    inner = activation(jnp.einsum("end,edf->enf", copies, gate))
    inner = inner * jnp.einsum("end,edf->enf", copies, up)
    out = jnp.einsum("enf,efd->end", inner, down).astype(jnp.float32)
    return jnp.sum(out * jnp.expand_dims(expert_gates.T, -1), axis=0).astype(x.dtype)
