"""Published models by path: configuration now, weights on demand."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models.pretrained import gguf_file, layout, safetensors_folder
from models.pretrained.location import locate
from models.pretrained.source import Source
from models.transformer import Transformer


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A published model, whose weights are read when asked for.

    Attributes:
      path: of its folder or file.
      model: `functools.partial(Transformer, ...)` with all fields that the files set;
        others (`dtype`, `param_dtype`) are free: `functools.partial(p.model, ...)`.
      end_ids: tokens that end a text, the one for the end of a document or turn
        first.
      assumed: entries of `config.json` that a `.gguf` file cannot say, as they were
        read; `open_model(..., settings=)` sets them.
      context: positions of the longest text it was made for; None where unsaid.
      source: the open files.
    """

    path: Path
    model: functools.partial
    end_ids: tuple[int, ...]
    assumed: Mapping[str, Any]
    context: int | None
    source: Source = dataclasses.field(repr=False)

    def arrays(self, *, layers: str = "separate") -> dict[str, Any]:
        """Return host arrays in nested dicts with string keys, as in a train state.

        `{"embedding": ..., "blocks": {"0": {"attention": {"query": [d heads head_dim]`;
        of the type they are stored in, float32 where they were quantized.

        Args:
          layers: of the `Transformer` that they are for.

        Raises:
          ValueError: for a tensor that is missing, of another shape or unknown.
        """
        return layout.arrays(self.source, functools.partial(self.model, layers=layers))

    def readers(
        self, *, layers: str = "separate"
    ) -> dict[str, Callable[[], np.ndarray]]:
        """Return by path what reads each of `arrays`, so that few are held at a time.

        Raises:
          ValueError: as `arrays`; for another shape, from a reader.
        """
        return layout.readers(self.source, functools.partial(self.model, layers=layers))

    def shapes(self, *, layers: str = "separate") -> dict[str, tuple[int, ...]]:
        """Return the shape of each of `arrays`, by path; no file is read."""
        return layout.shapes(functools.partial(self.model, layers=layers))

    def dtypes(self, *, layers: str = "separate") -> dict[str, np.dtype]:
        """Return the type of each of `arrays`, by path; only headers are read."""
        return layout.dtypes(self.source, functools.partial(self.model, layers=layers))

    def load(self, **fields: Any) -> Transformer:
        """Return the model on the default device.

        Args:
          **fields: of `Transformer`, as in `load(dtype="bfloat16")`.

        Raises:
          ValueError: as `arrays`.
        """
        make = functools.partial(self.model, **fields)
        graph, state = nnx.split(nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0))))
        state = jax.tree.map(lambda x: x, state)
        arrays = self.arrays(layers=fields.get("layers", "separate"))
        arrays = jax.tree.map(
            lambda leaf, x: jnp.asarray(x, leaf.dtype),
            nnx.to_pure_dict(state),
            nnx.restore_int_paths(arrays),
        )
        nnx.replace_by_pure_dict(state, arrays)
        return nnx.merge(graph, state)

    @property
    def skipped(self) -> tuple[str, ...]:
        """Names of tensors in the files that are not of the model."""
        return self.source.skipped

    @functools.cached_property
    def digest(self) -> str:
        """Hash of weights and configuration, 32 hexadecimal digits."""
        return self.source.digest()


def open_model(
    path: str | Path, *, settings: Mapping[str, Any] | None = None
) -> Pretrained:
    """Open a folder (`config.json`, `model*.safetensors`) or a `.gguf` file.

    Args:
      path: also `package:NAME/FILE`, a file that an installed Python package carries.
      settings: entries of `config.json` that are read in place of the file's own; None
        as a value reads the model as if the entry were null.

    Raises:
      ValueError: naming the file, and the entry that is missing or not supported.
    """
    location = locate(path)
    if location.is_dir():
        source = safetensors_folder.read(location, dict(settings or {}))
    elif location.suffix == ".gguf":
        source = gguf_file.read(location, dict(settings or {}))
    else:
        raise ValueError(
            f"{path} is neither a folder with config.json and model*.safetensors "
            "nor a .gguf file"
        )
    layers, tensors = source.fields["num_layers"], len(source.tensors)
    if layers > tensors:
        raise ValueError(f"{path} says {layers:,} layers, and has {tensors:,} tensors")
    return Pretrained(
        path=location,
        model=functools.partial(Transformer, **source.fields),
        end_ids=source.end_ids,
        assumed=source.assumed,
        context=source.context,
        source=source,
    )
