"""Arrays of `models.Transformer` from the tensors of a source."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flax import nnx

from models import checks, layers
from models.pretrained import forms
from models.pretrained.forms import Shape
from models.pretrained.source import Source
from models.pretrained.tensors import names
from models.routing.expert_bias import ExpertBias


def arrays(source: Source, model: functools.partial) -> dict[str, Any]:
    """Return the arrays of `model` in nested dicts, in the type of their tensors.

    Raises:
      ValueError: for a tensor that is missing, misshapen or of no use.
    """
    tree: dict[str, Any] = {}
    for path, read in readers(source, model).items():
        *folders, name = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[name] = read()
    return tree


def readers(
    source: Source, model: functools.partial
) -> dict[str, Callable[[], np.ndarray]]:
    """Return by path what reads an array of `model`, in the type of its tensors.

    Raises:
      ValueError: for a tensor that is missing or of no use; from a reader, for one
        that is misshapen.
    """
    parts = {path: forms.by_layer(path, shape) for path, shape in shapes(model).items()}
    tensor_names = {
        path: _tensor_names(source, path, shape)
        for part in parts.values()
        for path, shape in part.items()
    }
    _check_names(source, tensor_names)

    def read(path: str) -> np.ndarray:
        part = parts[path]
        if not layers.is_stacked(path.split("/")):
            return _array(source, path, tensor_names[path], part[path])
        stored = {source.dtypes[name] for p in part for name in tensor_names[p]}
        # A layer at a time into its place: never two copies of all.
        stacked = np.empty((len(part), *next(iter(part.values()))), _widest(stored))
        for layer, p in enumerate(part):
            stacked[layer] = _array(source, p, tensor_names[p], part[p])
        return stacked

    return {path: functools.partial(read, path) for path in parts}


def dtypes(source: Source, model: functools.partial) -> dict[str, np.dtype]:
    """Return the type of each of `arrays`, by path: the widest of its tensors.

    Float64 is read as float32.
    """
    by_path = {}
    for path, shape in shapes(model).items():
        of_path = {
            source.dtypes.get(name)
            for p, part in forms.by_layer(path, shape).items()
            for name in _tensor_names(source, p, part)
        }
        by_path[path] = _widest({dtype for dtype in of_path if dtype})
    wide = np.dtype(np.float64)
    return {p: np.dtype(np.float32) if x == wide else x for p, x in by_path.items()}


def _widest(dtypes: set[np.dtype]) -> np.dtype:
    """Return the one type of several, float32 where they differ."""
    return next(iter(dtypes)) if len(dtypes) == 1 else np.dtype(np.float32)


def shapes(model: functools.partial) -> dict[str, Shape]:
    """Return the shape of each parameter and expert bias; nothing is allocated."""
    module = nnx.eval_shape(lambda: model(rngs=nnx.Rngs(0)))
    flat: dict[str, Shape] = {}

    def walk(tree: Any, path: tuple[str, ...]) -> None:
        if not isinstance(tree, Mapping):
            flat["/".join(path)] = tuple(tree.shape)
            return
        for name, below in tree.items():
            walk(below, (*path, str(name)))

    walk(nnx.to_pure_dict(nnx.state(module, (nnx.Param, ExpertBias))), ())
    return flat


def _tensor_names(source: Source, path: str, shape: Shape) -> list[str]:
    """Return the tensors of an array: one, or one an expert."""
    role, layer = forms.role(path)
    template = names.of(source.names, role, len(shape))
    count = shape[0] if "{expert}" in template else 1
    return [template.format(layer=layer, expert=expert) for expert in range(count)]


def _check_names(source: Source, tensor_names: Mapping[str, list[str]]) -> None:
    """Refuse a source whose tensors are not exactly those of the model."""
    used = {name for of_path in tensor_names.values() for name in of_path}
    available = {name for name in source.tensors if not name.endswith(source.unused)}
    head = source.names["output"]
    for path, of_path in tensor_names.items():
        for name in of_path:
            if name not in available:
                raise ValueError(
                    f"{source.path}: no tensor {name!r} for {path}; "
                    f"{_missing_hint(name == head, name, available - used)}"
                )
    if head in available - used:  # tied, and stored all the same
        table = source.tensors[source.names["embedding"]]()
        if not np.array_equal(source.tensors[head](), table):
            raise ValueError(
                f"{source.path}: the head is tied to the embedding, but {head!r} "
                "differs from it"
            )
        used.add(head)
    if unknown := sorted(available - used):
        raise ValueError(
            f"{source.path}: no place for {len(unknown)} of the tensors, the first of "
            f"them {unknown[0]!r}: a part of a model that is not supported"
        )


def _missing_hint(is_head: bool, name: str, unused: set[str]) -> str:
    if is_head:
        return (
            "the file holds no head of its own, and tie_word_embeddings is not true: "
            "where the head is the embedding, settings={'tie_word_embeddings': True}"
        )
    if not unused:
        return "every tensor that is there has a place"
    return checks.nearest(name, unused).lstrip("; ")


def _array(
    source: Source, path: str, tensor_names: list[str], shape: Shape
) -> np.ndarray:
    role, _ = forms.role(path)
    stored_shape, convert, _ = forms.of(role)
    template = names.of(source.names, role, len(shape))
    per_tensor = shape[1:] if "{expert}" in template else shape
    parts = []
    for name in tensor_names:
        tensor = source.tensors[name]()
        if tensor.shape != stored_shape(per_tensor):
            raise ValueError(
                f"{source.path}: {name!r} must be {list(stored_shape(per_tensor))}, "
                f"got {list(tensor.shape)}"
            )
        parts.append(convert(tensor, per_tensor))
    return np.stack(parts) if per_tensor != shape else parts[0]
