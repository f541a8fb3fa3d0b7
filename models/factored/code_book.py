"""A head over a code book: tokens that share a code share a row of the head."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models import checks, sharding
from models.base import Model
from models.initializers import SMALL, Initializer
from models.kernels import projection


class CodeBook(nnx.Module):
    """`z_v = h · c_m(v) + b_v`: K products a position, read out for V tokens.

    Args:
      num_outputs: V.
      num_codes: K.
      mapping: m, `[V]` integers below K.
      bias: whether there is b.
      dim: width of h.
      init: of the codes c.
      dtype: of the products.
      param_dtype: of codes and biases.
      rngs: of the initial values.
    """

    def __init__(
        self,
        *,
        num_outputs: int,
        num_codes: int,
        mapping: np.ndarray,
        bias: bool,
        dim: int,
        init: Initializer,
        dtype: str,
        param_dtype: str,
        rngs: nnx.Rngs,
    ):
        self.dtype = dtype

        def parameter(init: Any, shape: tuple[int, ...], axes: tuple) -> nnx.Param:
            return sharding.parameter(init, rngs, shape, axes=axes, dtype=param_dtype)

        # No axis is named `vocab`: a slice of the biases is not a slice of the codes.
        self.codes = parameter(init, (num_codes, dim), (None, "embed"))
        zeros = jax.nn.initializers.zeros
        self.output_bias = parameter(zeros, (num_outputs,), (None,)) if bias else None
        self.mapping = nnx.Variable(jnp.asarray(mapping, jnp.int32), axes=(None,))

    def __call__(self, hidden: jax.Array) -> jax.Array:
        """Return logits `[*b V]`, float32, of `[*b d]`."""
        of_codes = projection.logits(hidden, self.codes[...], self.dtype)
        logits = jnp.take(of_codes, self.mapping[...], axis=-1)
        if self.output_bias is None:
            return logits
        bias = self.output_bias[...].astype(jnp.float32)
        return logits + jnp.broadcast_to(bias, logits.shape)


def VQHead(
    *,
    model: Callable[..., Model],
    num_codes: int,
    mapping: str = "",
    bias: bool = False,
    init: Initializer = SMALL,
    rngs: nnx.Rngs,
) -> Model:
    """Return `model` with a code book in place of its head.

    `z_v = h · c_m(v) + b_v` of codes `[K d]`: the head has `K d` parameters and takes
    as many products a position, where it was `V d`. With `K = V` and the mapping
    `m(v) = v` it is the head that it replaces. Without `bias` tokens of one code are
    equally probable: with n_k tokens of code k, the loss is at least the mean of
    `log n_m(y)`; with it, at least the mean entropy of a token given its code.

    The loss reads all V logits, by blocks of tokens and not by tiles of the vocabulary.

    Args:
      model: called with `rngs=`; a `Transformer` or a classifier of images.
      num_codes: K.
      mapping: file of numpy, `[V]` integers below K: m, from clusters of a trained
        head, say. "" is `m(v) = v mod K`: where ids are ordered by frequency, the K
        most frequent have a code each, and those after share them.
      bias: whether each token has a bias of its own.
      init: of the codes.
      rngs: of the initial values.

    Raises:
      ValueError: K is not in 1..V, or the file is not such a mapping.

    Source: Shao et al. 2025, VQ-Logits (arXiv:2505.10202), which leaves open how
    the mapping is learned: here it is fixed.
    """
    coded: Any = model(rngs=rngs)
    size = coded.num_outputs
    if not 1 <= num_codes <= size:
        raise ValueError(f"num_codes must be in 1..{size}, got {num_codes}")
    if not hasattr(coded, "output"):
        raise ValueError(f"{type(coded).__name__} has no head that codes could replace")
    param_dtype = str(jax.tree.leaves(nnx.state(coded, nnx.Param))[0].dtype)
    coded.output = CodeBook(
        num_outputs=size,
        num_codes=num_codes,
        mapping=read_mapping(mapping, size=size, num_codes=num_codes),
        bias=bias,
        dim=coded.dim,
        init=init,
        dtype=coded.dtype,
        param_dtype=param_dtype,
        rngs=rngs,
    )
    return coded


def read_mapping(path: str, *, size: int, num_codes: int) -> np.ndarray:
    """Return the code of each token, as `VQHead` says; ValueError for a wrong file."""
    if not path:
        return np.arange(size) % num_codes
    try:
        mapping = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"mapping: no array of numpy in {path!r}: {error}") from None
    checks.one_of("kind of mapping", mapping.dtype.kind, "iu")
    if mapping.shape != (size,) or mapping.min() < 0 or mapping.max() >= num_codes:
        raise ValueError(
            f"mapping must be [{size}] integers in 0..{num_codes - 1}, got "
            f"{list(mapping.shape)} in {path!r}"
        )
    return mapping
