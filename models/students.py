"""Students that several configs share, as graph nodes."""

import functools
from collections.abc import Callable

from fiddle.experimental.auto_config import auto_config

from models.base import Model
from models.initializers import Normal
from models.moe import MoE
from models.transformer import Transformer


@auto_config
def small_moe() -> Callable[..., Model]:
    """Return a Transformer of four layers, of four experts each, two for every token.

    Embeddings start at standard deviation 0.02 and are scaled by 50, to near one.
    """
    return functools.partial(
        Transformer,
        vocab_size=4096,
        dim=192,
        num_layers=4,
        num_heads=4,
        embedding_init=Normal(stddev=0.02),
        embedding_scale=50.0,
        mlp=functools.partial(
            MoE,
            num_experts=4,
            experts_per_token=2,
            hidden_dim=256,
            renormalize=True,
        ),
    )
