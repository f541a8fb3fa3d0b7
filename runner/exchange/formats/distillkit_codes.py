"""DistillKit's compressed log-probabilities as numbers, by its config.

Of `distillkit/compression` at a61c2e7: `monotonic_logprobs.py` and `bitpack.py`.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from runner.exchange.formats.scored import BadScores
from runner.files import form

CONFIG = "compression_config.yaml"
Dtype = Literal["float16", "bfloat16", "float32", "float64"]
_ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24}
_FITTED = 2.0**-8  # relative, of what is a polynomial and a few bits


@dataclasses.dataclass(frozen=True)
class Bin:
    """Residuals that share a scale."""

    scale_dtype: Dtype
    element_bits: int
    num_elements: int


@dataclasses.dataclass(frozen=True)
class Codes:
    """`DistributionQuantizationConfig`, and its inverse.

    Raises:
      ValueError: Its numbers cannot be.
    """

    d: int
    k: int
    exact_k: int
    residual_bins: Sequence[Bin]
    exact_dtype: Dtype = "float32"
    polynomial_terms: Sequence[int | str] | None = None
    term_dtype: Dtype = "float32"
    delta_encoding: bool = True
    error_diffusion: bool = False
    normalize_t: bool = False

    def __post_init__(self) -> None:
        elements = sum(x.num_elements for x in self.residual_bins)
        if not 0 <= self.exact_k <= self.k or elements > self.k - self.exact_k:
            raise ValueError(f"k is {self.k}, of {self.exact_k} exact and {elements}")
        if any(x not in ("sqrt", "exp") for x in self._named_terms):
            raise ValueError(f"polynomial_terms are {list(self._named_terms)}")

    @property
    def rounding(self) -> float:
        """Relative error of a score."""
        exact = _ROUNDING.get(self.exact_dtype, 2.0**-24)
        return exact if self.exact_k == self.k else max(exact, _FITTED)

    def entries(
        self, scores: np.ndarray, ids: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return ids and log-probabilities `[n k]` of their bytes `[n bytes]`.

        Raises:
          ValueError: There are not as many bytes as the config says.
        """
        bits = math.ceil(math.log2(self.d))
        return _unpack(ids, bits, self.k), self._log_probabilities(scores)

    def coded(
        self, ids: np.ndarray, scores: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the bytes of log-probabilities and ids `[n k]`, of `exact` codes."""
        bits = math.ceil(math.log2(self.d))
        flat = ids[..., None] >> np.arange(bits - 1, -1, -1) & 1
        packed = np.packbits(flat.reshape(len(ids), -1).astype(np.uint8), axis=-1)
        return np.ascontiguousarray(scores, "<f4").view(np.uint8), packed

    def text(self) -> str:
        """The config, as YAML."""
        import yaml

        return yaml.safe_dump(dataclasses.asdict(self))

    def _log_probabilities(self, coded: np.ndarray) -> np.ndarray:
        # Exact values, then coefficients, then residuals, each behind the last.
        out = _dtype(self.exact_dtype)
        at, exact = _take(coded, 0, out, self.exact_k)
        terms = self.polynomial_terms or ()
        at, coefficients = _take(coded, at, _dtype(self.term_dtype), len(terms))
        residuals = np.zeros((len(coded), self.k - self.exact_k), np.float32)
        first = 0
        for part in self.residual_bins:
            at, scale = _take(coded, at, _dtype(part.scale_dtype), 1)
            size = -(-part.num_elements * part.element_bits // 8)
            packed, at = coded[:, at : at + size], at + size
            codes = _unpack(packed, part.element_bits, part.num_elements)
            last = first + part.num_elements
            residuals[:, first:last] = _dequantized(codes, part) * scale
            first = last
        if at != coded.shape[-1]:
            raise ValueError(f"{coded.shape[-1]} bytes of scores, the config says {at}")
        approximate = residuals.astype(out)
        if terms:
            powers = self._powers(_dtype(self.term_dtype))
            fit = (powers * coefficients[:, None, :]).sum(-1, dtype=coefficients.dtype)
            approximate = fit + residuals.astype(out)
        scores = np.concatenate([exact, approximate.astype(out)], -1)
        if self.delta_encoding:
            scores = np.cumsum(scores.astype(np.float32), -1, dtype=np.float32)
        return scores.astype(out).astype(np.float64)

    @property
    def _named_terms(self) -> list[str]:
        return [x for x in self.polynomial_terms or () if isinstance(x, str)]

    def _powers(self, dtype: np.dtype) -> np.ndarray:
        """`[k - exact_k terms]`, the terms at each place."""
        count = self.k - self.exact_k
        t = np.linspace(0, 1, count) if self.normalize_t else np.arange(count)
        t = t.astype(dtype)
        named = {"sqrt": np.sqrt, "exp": np.exp}
        return np.stack(
            [
                named[x](t) if isinstance(x, str) else t**x
                for x in self.polynomial_terms or ()
            ],
            -1,
        ).astype(dtype)


def exact(*, d: int, k: int) -> Codes:
    """Return codes that round nothing."""
    return Codes(d=d, k=k, exact_k=k, residual_bins=[], delta_encoding=False)


def load(path: Path) -> Codes:
    """Return the config in a YAML file.

    Raises:
      BadScores: It is none.
    """
    import yaml

    try:
        value = yaml.safe_load(form.read_text(path))
        return form.parse(Codes, value)
    except (yaml.YAMLError, form.Malformed) as error:
        raise BadScores(f"{path}: {str(error).splitlines()[0]}") from None


def _dtype(name: str) -> np.dtype:
    import ml_dtypes  # NumPy knows no bfloat16

    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def _take(coded, at: int, dtype: np.dtype, count: int) -> tuple[int, np.ndarray]:
    end = at + count * dtype.itemsize
    values = np.ascontiguousarray(coded[:, at:end])
    if values.shape[-1] != end - at:
        raise ValueError(f"{coded.shape[-1]} bytes of scores, the config says more")
    return end, values.view(dtype).reshape(len(coded), count)


def _unpack(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Integers `[n count]` of so many bits each, the highest first."""
    if packed.shape[-1] != -(-bits * count // 8):
        raise ValueError(
            f"{packed.shape[-1]} bytes of {count} numbers of {bits} bits each"
        )
    flat = np.unpackbits(packed, axis=-1, count=bits * count)
    flat = flat.reshape(len(packed), count, bits)
    return flat.astype(np.int64) @ (1 << np.arange(bits - 1, -1, -1))


def _dequantized(codes: np.ndarray, part: Bin) -> np.ndarray:
    if part.element_bits == 1:
        return codes.astype(np.float32) * 2 - 1
    return (codes - (1 << (part.element_bits - 1))).astype(np.float32)
