"""The door of the package: a path to a model and its arrays."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from models.pretrained import gguf_file, layout, safetensors_folder
from models.pretrained.location import locate
from models.pretrained.source import Source
from models.transformer import Transformer


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A published model: read from its configuration now, from its weights on demand.

    model: `functools.partial(Transformer, ...)` with every field the files decide; what
        they do not (`dtype`, `param_dtype`) is free: `functools.partial(p.model, ...)`.
    end_ids: tokens that end a text, the one for the end of a document or turn first.
    """

    path: Path
    model: functools.partial
    end_ids: tuple[int, ...]
    source: Source = dataclasses.field(repr=False)

    def arrays(self, *, layers: str = "separate") -> dict[str, Any]:
        """Host arrays in nested dicts with string keys, as a train state lays them out.

        `{"embedding": ..., "blocks": {"0": {"attention": {"query": [d heads head_dim]`;
        of the type they are stored in, float32 where they were quantised.

        layers: of the `Transformer` that they are for.

        Raises: ValueError for a tensor that is missing, of another shape or unknown.
        """
        return layout.arrays(self.source, functools.partial(self.model, layers=layers))

    def load(self, **fields: Any) -> Transformer:
        """The model on the default device; `fields` as in `load(dtype="bfloat16")`.

        Raises: ValueError as `arrays` does.
        """
        make = functools.partial(self.model, **fields)
        graph, state = nnx.split(nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0))))
        state = jax.tree.map(lambda x: x, state)
        dtype = fields.get("param_dtype", "float32")
        arrays = self.arrays(layers=fields.get("layers", "separate"))
        arrays = jax.tree.map(lambda x: jnp.asarray(x, dtype), arrays)
        nnx.replace_by_pure_dict(state, nnx.restore_int_paths(arrays))
        return nnx.merge(graph, state)

    @functools.cached_property
    def digest(self) -> str:
        """32 hexadecimal digits of the files' content, weights and configuration."""
        return self.source.digest()


def open_model(path: str | Path) -> Pretrained:
    """A folder (`config.json`, `model*.safetensors`) or a `.gguf` file.

    path: also `package:NAME/FILE`, a file that an installed Python package carries.

    Raises: ValueError naming the file and what in it is missing or not supported.
    """
    found = locate(path)
    if found.is_dir():
        source = safetensors_folder.read(found)
    elif found.suffix == ".gguf":
        source = gguf_file.read(found)
    else:
        raise ValueError(
            f"{path} is neither a folder with config.json and model*.safetensors "
            "nor a .gguf file"
        )
    return Pretrained(
        path=found,
        model=functools.partial(Transformer, **source.fields),
        end_ids=source.end_ids,
        source=source,
    )
