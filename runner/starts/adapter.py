"""A start from a published model and an adapter of peft."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
from flax import nnx

from models import layers
from models.adapters.low_rank import NAME, LowRank
from models.pretrained import peft_adapter
from models.pretrained.peft_adapter import Pair, PeftAdapter
from runner.errors import UserError, prefixed
from runner.starts.base import StartContext
from runner.starts.published import Published
from runner.starts.weights_start import Weights, WeightsStart, wanted
from runner.weights import adapters
from runner.weights.tensors import StoredTensor, Tensors

_EMBEDDING, _HEAD = "embedding", "output"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adapter(WeightsStart):
    """A published model with an adapter that peft saved.

    In a student that has adapters (`models.LoRA`) it goes on as these; in one that has
    none it is added to the kernels. One of `lm_head` or `embed_tokens` is added to that
    matrix alone, also where the base ties the two: such a student has a head of its
    own.

    Attributes:
      path: of the folder of `adapter_config.json`.
      start: the model that it is for.
    """

    path: str
    start: Published

    def check(self) -> None:
        self.start.check()
        with prefixed("path"):
            self._read()

    def _read(self) -> PeftAdapter:
        try:
            return peft_adapter.read(Path(self.path).expanduser())
        except ValueError as error:
            raise UserError(str(error)) from error

    def weights(self, context: StartContext) -> Weights:
        base, adapter = self.start.weights(context), self._read()
        tensors = dict(base.tensors)
        self._check(adapter, tensors)

        # The embedding and the head, which part where the base ties them.
        tables = adapter.pairs.keys() & {_EMBEDDING, _HEAD}
        if _HEAD not in tensors and tables:
            if _HEAD not in wanted(context)[0]:
                raise UserError(
                    f"{self.path} changes the {tables.pop()} alone, which the student "
                    "ties: student.tie_head=False"
                )
            tensors[_HEAD] = tensors[_EMBEDDING]
        for path in adapter.pairs.keys() & {_EMBEDDING, _HEAD}:
            tensors[path] = _changed(tensors[path], adapter.pairs[path], path)

        # The kernels, beside them or in them.
        scale = _own_scale(context)
        for path in adapter.pairs.keys() - {_EMBEDDING, _HEAD}:
            pair = adapter.pairs[path]
            factor = pair.scale / (1.0 if scale is None else scale)
            tensors |= _beside(path, tensors[path], pair, factor=factor)
        return Weights(
            source={
                **base.source,
                "adapter": {"path": self.path, "digest": _digest(adapter.files)},
            },
            tensors=adapters.in_kernels(tensors, scale=1.0)
            if scale is None
            else tensors,
        )

    def _check(self, adapter: PeftAdapter, base: Tensors) -> None:
        """Refuse an adapter of another model.

        Raises:
          UserError: with what the model does not have.
        """
        for path in adapter.pairs:
            if path not in base and not (path == _HEAD and _EMBEDDING in base):
                raise UserError(f"{self.path} is of {path}, {self.start.path} has none")
        for path, read in adapter.copies.items():
            theirs = base.get(path, base[_EMBEDDING]).read()
            if not np.array_equal(read().astype(np.float32), theirs.astype(np.float32)):
                raise UserError(
                    f"{self.path} is of a model with another {path} than "
                    f"{self.start.path}"
                )


def _own_scale(context: StartContext) -> float | None:
    """Return the scale of the student's own adapters, None where it has none."""
    for _, module in nnx.iter_modules(context.student):
        if isinstance(module, LowRank):
            return module.scale
    return None


def _beside(
    path: str, kernel: StoredTensor, pair: Pair, *, factor: float
) -> dict[str, StoredTensor]:
    """Return `A` and `B` in the form of `LowRank`, `B` times a factor."""
    owner, name = path.rsplit("/", 1)
    matrix = layers.kernel_axes(name)
    assert matrix is not None  # of every role that an adapter has
    split = len(matrix.inputs)
    a_shape = (*kernel.shape[:split], pair.rank)
    b_shape = (pair.rank, *kernel.shape[split:])
    float32 = np.dtype(np.float32)
    return {
        f"{owner}/{NAME}/{name}/a": StoredTensor(
            a_shape, float32, lambda: _float32(pair.a).T.reshape(a_shape)
        ),
        f"{owner}/{NAME}/{name}/b": StoredTensor(
            b_shape,
            float32,
            lambda: np.float32(factor) * _float32(pair.b).T.reshape(b_shape),
        ),
    }


def _changed(table: StoredTensor, pair: Pair, path: str) -> StoredTensor:
    """Return an embedding or a head, `[vocabulary dim]`, with its adapter in it."""

    def read() -> np.ndarray:
        change = np.float32(pair.scale) * (_float32(pair.b) @ _float32(pair.a))
        change = change.T if path == _EMBEDDING else change
        return table.read().astype(np.float32) + change

    return StoredTensor(table.shape, np.dtype(np.float32), read)


def _float32(read: peft_adapter.Read) -> np.ndarray:
    return read().astype(np.float32)


def _digest(files: tuple[Path, ...]) -> str:
    content = hashlib.blake2b(digest_size=16)
    for file in files:
        content.update(file.read_bytes())
    return content.hexdigest()
