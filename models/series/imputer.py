"""Encoder of series with missing numbers, a latent a moment, and a decoder."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from models import checks, sharding
from models.attention import Attention
from models.base import (
    REMAT,
    Batch,
    Model,
    TrunkOutput,
    check_capture,
    check_remat,
    row_keys,
)
from models.block import Block, Recipe
from models.initializers import FAN_IN, SMALL, Initializer
from models.kernels import projection
from models.layers import form
from models.mlp import GatedMLP
from models.norms import RMSNorm
from models.tags import DType, ParamDType, check_dtypes

EPS = 1e-6
MEAN, LOG_VARIANCE = "latent/mean", "latent/log_variance"
OBSERVED, DRAWN = "observed", "drawn/logits"


class Layer(nnx.Module):
    """`W x + b`, float32, b zero before the first step."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        init: Initializer,
        dtype: str,
        param_dtype: str,
        rngs: nnx.Rngs,
    ):
        self.dtype = dtype
        parameter = functools.partial(sharding.parameter, dtype=param_dtype)
        # No axis is named `vocab`: outputs are few, and numbers.
        self.kernel = parameter(init, rngs, (outputs, inputs), axes=(None, "embed"))
        zeros = jax.nn.initializers.zeros
        self.bias = parameter(zeros, rngs, (outputs,), axes=(None,))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `[*b inputs]` to `[*b outputs]`."""
        y = projection.logits(x, self.kernel[...], self.dtype)
        return y + jnp.broadcast_to(self.bias[...].astype(jnp.float32), y.shape)


class Imputer(Model):
    """Numbers that are missing, from those that are observed: a variational encoder.

    Each moment has a latent `z ~ N(μ, σ²)`, which blocks of full attention over the
    moments make of the observed numbers and of what is observed. A decoder of a moment,
    `W relu(U z + a) + b`, gives the numbers of all channels. The head decodes μ, so
    that predictions are not random. `drawn/logits` decode `μ + σ ε`, ε drawn anew for
    each row and step, the same in a run that goes on and however a step is cut.

    Reads `values` `[b t c]` and `observed` `[b t c]`, bool.

    Args:
      channels: c.
      num_steps: t.
      latent_dim: width of z, and of what the head reads.
      dim: width of the residual stream, and of the decoder's layer.
      num_layers: blocks, as of `models.VisionTransformer`.
      num_heads: heads of attention.
      mlp: as in `Transformer`.
      init: of every matrix but those to μ and log σ².
      dtype: type of activations and products.
      param_dtype: type of the parameters.
      rngs: of the initial values.

    Intermediates: `latent/mean` and `latent/log_variance` `[b t latent_dim]`;
    `drawn/logits` `[b t c]`; `observed` as it was read, of a view that hides some.

    Source: Kingma and Welling 2013 (arXiv:1312.6114), the reparameterization; the
    pairing of numbers with their mask is that of SAITS (arXiv:2202.08516).
    """

    reads: ClassVar[frozenset[str]] = frozenset({"values", "observed"})

    def __init__(
        self,
        *,
        channels: int,
        num_steps: int,
        latent_dim: int = 16,
        dim: int = 64,
        num_layers: int = 2,
        num_heads: int = 4,
        mlp: Callable[..., nnx.Module] = GatedMLP,
        init: Initializer = FAN_IN,
        dtype: Annotated[str, DType] = "float32",
        param_dtype: Annotated[str, ParamDType] = "float32",
        rngs: nnx.Rngs,
    ):
        checks.positive(
            channels=channels,
            num_steps=num_steps,
            latent_dim=latent_dim,
            dim=dim,
            num_layers=num_layers,
            num_heads=num_heads,
        )
        check_dtypes(dtype=dtype, param_dtype=param_dtype)
        checks.divisible("dim", dim, by="num_heads", divisor=num_heads)
        self.dim, self.num_outputs, self.draws = latent_dim, channels, True
        self.num_steps, self.dtype = num_steps, dtype

        sublayer = {
            "dim": dim,
            "init": init,
            "output_scale": 1 / math.sqrt(2 * num_layers),
            "dtype": dtype,
            "param_dtype": param_dtype,
        }
        norm = functools.partial(RMSNorm, dim=dim, eps=EPS, param_dtype=param_dtype)
        recipe = Recipe(
            attention=functools.partial(
                Attention,
                num_heads=num_heads,
                num_kv_heads=num_heads,
                head_dim=dim // num_heads,
                norm_eps=EPS,
                **sublayer,
            ),
            mlp=functools.partial(mlp, **sublayer),
            norm=norm,
        )

        # Parameters: their order is the order in which keys are drawn.
        layer = functools.partial(
            Layer, dtype=dtype, param_dtype=param_dtype, rngs=rngs
        )
        self.embedding = layer(2 * channels, dim, init=init)
        self.positions = sharding.parameter(
            SMALL, rngs, (num_steps, dim), axes=(None, "embed"), dtype=param_dtype
        )
        self.blocks = form("separate").create(recipe.block, rngs, num_layers=num_layers)
        self.norm = norm(rngs=rngs)
        self.mean = layer(dim, latent_dim, init=SMALL)
        self.log_variance = layer(dim, latent_dim, init=SMALL)
        self.decoder = layer(latent_dim, dim, init=init)
        self.output = layer(dim, channels, init=init)

    def trunk(
        self,
        batch: Batch,
        *,
        capture: frozenset[str] = frozenset(),
        remat: str = "none",
    ) -> TrunkOutput:
        """Encode the observed numbers; `hidden` is μ."""
        check_capture(capture, self.offers())
        wrap = REMAT[check_remat(remat)]
        observed = batch["observed"]
        values = jnp.where(observed, batch["values"], 0.0)
        both = jnp.concatenate([values, observed.astype(values.dtype)], axis=-1)
        x = self.embedding(both).astype(self.dtype)
        x = x + jnp.broadcast_to(self.positions[...].astype(self.dtype), x.shape)
        x = sharding.constrain(x, ("batch", None, None))

        def step(block: Block, x: jax.Array, _: None) -> tuple[jax.Array, dict]:
            return wrap(block)(x, None, None)[0], {}

        x, _ = self.blocks.run(step, x)
        x = self.norm(x)
        mean = self.mean(x)
        captured = {MEAN: mean, OBSERVED: observed}
        if capture & {LOG_VARIANCE, DRAWN}:
            captured[LOG_VARIANCE] = self.log_variance(x)
        if DRAWN in capture:
            keys = jax.vmap(jax.random.fold_in, (0, None))(row_keys(batch), 2)
            noise = jax.vmap(lambda key: jax.random.normal(key, mean.shape[1:]))(keys)
            deviation = jnp.exp(0.5 * captured[LOG_VARIANCE])
            captured[DRAWN] = self.head(mean + deviation * noise)
        return TrunkOutput(
            hidden=mean, intermediates={path: captured[path] for path in capture}
        )

    def head(self, hidden: jax.Array) -> jax.Array:
        """Return the numbers of all channels, `[*b c]`, of latents `[*b d]`."""
        return self.output(jax.nn.relu(self.decoder(hidden)))

    def offers(self) -> frozenset[str]:
        """Return the paths of latents, of numbers that are drawn, of what is read."""
        return frozenset({MEAN, LOG_VARIANCE, DRAWN, OBSERVED})

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        super().check_batch(batch)
        shape, fits = batch["values"].shape[1:], (self.num_steps, self.num_outputs)
        if shape != fits:
            raise ValueError(
                f"Imputer takes series of {fits[0]} moments and {fits[1]} channels; "
                f"the data's have {' and '.join(map(str, shape))}"
            )
