"""Small convolutional classifier."""

import functools
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import nnx

from models import checks, sharding
from models.base import REMAT, Batch, TrunkOutput, check_capture, check_remat
from models.initializers import SMALL, FanIn, Initializer
from models.norms import GroupNorm, RMSNorm
from models.running.state import RUNNING, Running
from models.tags import DType, ParamDType, check_dtypes
from models.vision.images import Classifier, standardize

KERNEL = 3
RELU_FAN_IN = FanIn(scale=2.0)


class Convolution(nnx.Module):
    """`relu(norm(conv(x)))`, 3 x 3, zero padding; `x +` the same where `residual`."""

    def __init__(
        self,
        *,
        inputs: int,
        outputs: int,
        stride: int,
        residual: bool,
        norm: Callable[..., Any],
        init: Initializer,
        dtype: str,
        param_dtype: str,
        rngs: nnx.Rngs,
    ):
        self.stride, self.residual, self.dtype = stride, residual, dtype
        shape = (KERNEL, KERNEL, inputs, outputs)
        self.kernel = sharding.parameter(
            init,
            rngs,
            shape,
            axes=(None, None, None, "embed"),
            dtype=param_dtype,
            fan=(KERNEL * KERNEL * inputs, outputs),
        )
        self.norm = norm(dim=outputs, param_dtype=param_dtype, rngs=rngs)

    def __call__(
        self, x: jax.Array, over_batch: bool = False
    ) -> tuple[jax.Array, jax.Array | None]:
        """Map `[b h w inputs]` to `[b ceil(h / stride) ceil(w / stride) outputs]`.

        With `over_batch` its norm is that of the batch, and the second result what the
        norm's running state observes.
        """
        margin = KERNEL // 2
        y = jax.lax.conv_general_dilated(
            x,
            self.kernel[...].astype(self.dtype),
            window_strides=(self.stride, self.stride),
            padding=[(margin, margin), (margin, margin)],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        y, observed = self.norm.over_batch(y) if over_batch else (self.norm(y), None)
        y = jax.nn.relu(y)
        y = x + y if self.residual else y
        return sharding.constrain(y, ("batch", None, None, None)), observed


class ConvNet(Classifier):
    """Stages of 3 x 3 convolutions, global average pooling, RMSNorm, a linear head.

    A stage begins with a convolution that changes the width, and from the second stage
    on halves both sides; `depth - 1` residual ones follow. Each is normalised by
    `groups` of channels (GroupNorm), and never over the batch unless `norm` says so.

    Kernels are sharded over `fsdp` alone, and replicated along `tensor`.

    Args:
      num_classes: number of logits.
      channels: of the images; their sides may have any length.
      widths: channels of the stages; `groups` divides each.
      depth: convolutions of a stage.
      groups: of each GroupNorm.
      norm: called with `dim`, `param_dtype` and `rngs` in the place of GroupNorm:
        `functools.partial(models.BatchNorm, ghost=32)`. None is GroupNorm.
      pixel_mean: of the data, for pixels in [0, 1].
      pixel_stddev: likewise.
      init: of the kernels: variance `2 / inputs` (He et al. 2015, arXiv:1502.01852,
        equation 10).
      head_init: of the head.
      dtype: type of activations and products.
      param_dtype: type of the parameters.
      rngs: of the initial values.

    Intermediates: `hidden/i` `[b widths[i]]`, the spatial mean of stage `i`'s output,
    before the norm; `patches/i` `[b h w widths[i]]`, that output.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        channels: int = 1,
        widths: Sequence[int] = (16, 32),
        depth: int = 1,
        groups: int = 4,
        norm: Callable[..., Any] | None = None,
        pixel_mean: float = 0.5,
        pixel_stddev: float = 0.5,
        init: Initializer = RELU_FAN_IN,
        head_init: Initializer = SMALL,
        dtype: Annotated[str, DType] = "float32",
        param_dtype: Annotated[str, ParamDType] = "float32",
        rngs: nnx.Rngs,
    ):
        if not widths:
            raise ValueError("widths must hold at least one width")
        checks.positive(
            num_classes=num_classes,
            channels=channels,
            depth=depth,
            groups=groups,
            pixel_stddev=pixel_stddev,
        )
        check_dtypes(dtype=dtype, param_dtype=param_dtype)
        self.dim, self.num_outputs = widths[-1], num_classes
        self.image_shape = (None, None, channels)
        self.pixel_mean, self.pixel_stddev = pixel_mean, pixel_stddev
        self.dtype = dtype

        def convolution(inputs: int, outputs: int, *, stage: int, layer: int):
            return Convolution(
                inputs=inputs,
                outputs=outputs,
                stride=2 if stage and not layer else 1,
                residual=layer > 0,
                norm=norm or functools.partial(GroupNorm, groups=groups),
                init=init,
                dtype=dtype,
                param_dtype=param_dtype,
                rngs=rngs,
            )

        # A stage begins with the convolution that changes width and resolution.
        self.stages = nnx.List(
            nnx.List(
                convolution(width if layer else inputs, width, stage=i, layer=layer)
                for layer in range(depth)
            )
            for i, (inputs, width) in enumerate(
                zip((channels, *widths), widths, strict=False)
            )
        )
        self.norm = RMSNorm(dim=widths[-1], param_dtype=param_dtype, rngs=rngs)
        self.output = sharding.parameter(
            head_init,
            rngs,
            (num_classes, widths[-1]),
            axes=("vocab", "embed"),
            dtype=param_dtype,
        )

    def trunk(
        self,
        batch: Batch,
        *,
        capture: frozenset[str] = frozenset(),
        remat: str = "none",
    ) -> TrunkOutput:
        """Run the stages over `images` `[b h w c]`, float in [0, 1] or uint8."""
        check_capture(capture, self.offers())
        wrap = REMAT[check_remat(remat)]
        x = standardize(
            batch["images"],
            mean=self.pixel_mean,
            stddev=self.pixel_stddev,
            dtype=self.dtype,
        )
        run = wrap(functools.partial(_run_stage, over_batch=RUNNING in capture))
        kinds: dict[str, list[jax.Array]] = {"hidden": [], "patches": []}
        observed = []
        for stage in self.stages:
            x, of_stage = run(stage, x)
            observed += of_stage
            kinds["hidden"].append(jnp.mean(x, axis=(1, 2)))
            kinds["patches"].append(x)
        captured = {}
        for path in sorted(capture - {RUNNING}):
            kind, _, stage = path.partition("/")
            captured[path] = kinds[kind][int(stage)]
        if RUNNING in capture:
            captured[RUNNING] = jnp.concatenate(observed)
        return TrunkOutput(
            hidden=self.norm(kinds["hidden"][-1]), intermediates=captured
        )

    def offers(self) -> frozenset[str]:
        """Return `hidden/0`, `patches/0` and so on of every stage; widths differ."""
        kinds, stages = ("hidden", "patches"), range(len(self.stages))
        paths = {f"{kind}/{i}" for kind in kinds for i in stages}
        if jax.tree.leaves(nnx.state(self.stages, Running)):
            paths |= {RUNNING}
        return frozenset(paths)


def _run_stage(
    stage: nnx.List, x: jax.Array, *, over_batch: bool
) -> tuple[jax.Array, list[jax.Array | None]]:
    observed = []
    for convolution in stage:
        x, of_layer = convolution(x, over_batch)
        observed.append(of_layer)
    return x, observed
