"""Settings of a run of `bench.py`, and lines of its table; needs neither JAX nor torch.

They reach the process of each row through the environment.
"""

import dataclasses
import json
import os
import statistics
from collections.abc import Mapping, Sequence

VARIABLE = "RETORT_GPU_BENCH"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """A Llama's, with heads of `dim / heads` features and a tied head.

    Attributes:
      tokens: of a step.
    """

    layers: int
    dim: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int
    tokens: int

    @property
    def head_dim(self) -> int:
        """Features of a head."""
        return self.dim // self.heads

    def flops(self, length: int) -> int:
        """FLOPs of a training step's matmuls a token, rows of one document.

        Three times the forward pass; causal attention as half of all pairs.
        """
        heads = self.dim * (self.heads + self.kv_heads) * self.head_dim * 2
        layer = heads + 3 * self.dim * self.inner
        weights = self.layers * layer + self.dim * self.vocabulary
        attention = self.layers * self.heads * self.head_dim * length
        return 6 * (weights + attention)


SHAPES = {
    # SmolLM2-135M, and Llama 3.2 1B with 131,072 entries.
    "135M": Shape(
        layers=30,
        dim=576,
        heads=9,
        kv_heads=3,
        inner=1536,
        vocabulary=49_152,
        tokens=32_768,
    ),
    "1B": Shape(
        layers=16,
        dim=2048,
        heads=32,
        kv_heads=8,
        inner=8192,
        vocabulary=131_072,
        tokens=8192,
    ),
}
TINY = Shape(
    layers=2, dim=64, heads=4, kv_heads=2, inner=128, vocabulary=4608, tokens=512
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What every row is told.

    Attributes:
      tiny: small enough for a CPU.
      torch: a Python that has torch and transformers; empty for none.
      divide: rows of a step, by which smaller devices take fewer.
      kind: of the device, as JAX names it.
      peak: bfloat16 FLOP/s of its data sheet; 0 where that is not known.
      measured: FLOP/s of a large bfloat16 product.
    """

    tiny: bool = False
    torch: str = ""
    divide: int = 1
    kind: str = ""
    peak: float = 0.0
    measured: float = 0.0

    def environment(self) -> dict[str, str]:
        """Return the environment of a row's process.

        XLA would reserve three quarters of the memory, beside which torch finds none.
        """
        own = {
            VARIABLE: json.dumps(dataclasses.asdict(self)),
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        return {**os.environ, **({"JAX_PLATFORMS": "cpu"} if self.tiny else {}), **own}

    def shape(self, name: str) -> Shape:
        """Return the shape of that name, or a tiny one."""
        return TINY if self.tiny else SHAPES[name]

    def length(self, tokens: int) -> int:
        """Return the tokens of a row."""
        return 256 if self.tiny else tokens

    def rows(self, shape: Shape, length: int) -> int:
        """Return the rows of a step."""
        return max(1, shape.tokens // length // self.divide)

    def rounds(self) -> int:
        """Return how often all of a row are run in turn."""
        return 2 if self.tiny else 7

    def share(self, rate: float, flops: float) -> str:
        """Return the model FLOPs utilisation of so many tokens a second."""
        of_measured = f"{rate * flops / self.measured:.2f} of a large product"
        if not self.peak:
            return of_measured
        return f"MFU {rate * flops / self.peak:.2f}, {of_measured}"


def current() -> Settings:
    """Return those that `bench.py` hands to this process."""
    return Settings(**json.loads(os.environ[VARIABLE]))


def row(
    work: str, ours: str, beside: str = "", ratio: str = "", target: str = ""
) -> None:
    """Print a line of the table."""
    print(f"| {work} | {ours} | {beside} | {ratio} | {target} |", flush=True)


def spread(values: Sequence[float], digits: str = ".2f") -> str:
    """`median (min - max)`."""
    middle = statistics.median(values)
    return f"{middle:{digits}} ({min(values):{digits}} - {max(values):{digits}})"


def ratio(times: Mapping[str, list[float]], name: str, base: str) -> str:
    """Return the spread of the seconds of one over those of another, round by round."""
    return spread([a / b for a, b in zip(times[name], times[base], strict=True)])
