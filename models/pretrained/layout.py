"""Arrays of `models.Transformer` from the tensors of a source."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flax import nnx

from models import layers
from models.pretrained.source import Source, nearest

Shape = tuple[int, ...]


def arrays(source: Source, model: functools.partial) -> dict[str, Any]:
    """Nested dicts with string keys and the arrays of `model`, in their stored type.

    Raises: ValueError for a tensor that is missing, misshapen or of no use.
    """
    parts = {path: _parts(path, shape) for path, shape in _shapes(model).items()}
    wanted = {
        path: _tensor_names(source, path, shape)
        for part in parts.values()
        for path, shape in part.items()
    }
    _check_names(source, wanted)
    tree: dict[str, Any] = {}
    for path, part in parts.items():
        *folders, name = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        read = [_array(source, p, wanted[p], shape) for p, shape in part.items()]
        node[name] = np.stack(read) if layers.is_stacked(folders) else read[0]
    return tree


def _shapes(model: functools.partial) -> dict[str, Shape]:
    """By path, the shape of every parameter; nothing is allocated."""
    module = nnx.eval_shape(lambda: model(rngs=nnx.Rngs(0)))
    flat: dict[str, Shape] = {}

    def walk(tree: Any, path: tuple[str, ...]) -> None:
        if not isinstance(tree, Mapping):
            flat["/".join(path)] = tuple(tree.shape)
            return
        for name, below in tree.items():
            walk(below, (*path, str(name)))

    walk(nnx.to_pure_dict(nnx.state(module, nnx.Param)), ())
    return flat


def _parts(path: str, shape: Shape) -> dict[str, Shape]:
    """By path, the layers of `blocks/stacked/mlp/up`: `blocks/0/mlp/up` and so on."""
    names = path.split("/")
    if not layers.is_stacked(names):
        return {path: shape}
    role = "/".join(names[2:])
    return {f"blocks/{layer}/{role}": shape[1:] for layer in range(shape[0])}


def _role(path: str) -> tuple[str, int]:
    """`blocks/3/mlp/up` -> `mlp/up`, 3."""
    if not path.startswith("blocks/"):
        return path, 0
    _, layer, role = path.split("/", 2)
    return role, int(layer)


def _tensor_names(source: Source, path: str, shape: Shape) -> list[str]:
    """The tensors that make the array: one, or one an expert."""
    role, layer = _role(path)
    template = source.names[role]
    count = shape[0] if "{expert}" in template else 1
    return [template.format(layer=layer, expert=expert) for expert in range(count)]


def _check_names(source: Source, wanted: Mapping[str, list[str]]) -> None:
    used = {name for names in wanted.values() for name in names}
    held = {name for name in source.tensors if not name.endswith(source.unused)}
    for path, names in wanted.items():
        for name in names:
            if name not in held:
                near = nearest(name, held - used)
                raise ValueError(f"{source.path}: no tensor {name!r} for {path}{near}")
    head = source.names["output"]
    if head in held - used:  # tied, and stored all the same
        table = source.tensors[source.names["embedding"]]()
        if not np.array_equal(source.tensors[head](), table):
            raise ValueError(
                f"{source.path}: the head is tied to the embedding, but {head!r} "
                "differs from it"
            )
        used.add(head)
    if unknown := sorted(held - used):
        raise ValueError(
            f"{source.path}: no place for {len(unknown)} of the tensors, the first of "
            f"them {unknown[0]!r}: a part of a model that is not supported"
        )


def _array(source: Source, path: str, names: list[str], shape: Shape) -> np.ndarray:
    role, _ = _role(path)
    stored, ours = _FORMS.get(role, _AS_IT_IS)
    per_tensor = shape[1:] if "{expert}" in source.names[role] else shape
    parts = []
    for name in names:
        tensor = source.tensors[name]()
        if tensor.shape != stored(per_tensor):
            raise ValueError(
                f"{source.path}: {name!r} must be {list(stored(per_tensor))}, "
                f"got {list(tensor.shape)}"
            )
        parts.append(ours(tensor, per_tensor))
    return np.stack(parts) if per_tensor != shape else parts[0]


# A form is the shape of the stored tensor by that of our array, and the way from one
# to the other. Published matrices are `[outputs, inputs]`, with heads and their
# features on one axis.
Form = tuple[Callable[[Shape], Shape], Callable[[np.ndarray, Shape], np.ndarray]]

_AS_IT_IS: Form = (lambda s: s, lambda t, s: t)
_TURNED: Form = (
    lambda s: (*s[:-2], s[-1], s[-2]),
    lambda t, s: np.swapaxes(t, -1, -2),
)
_INTO_HEADS: Form = (
    lambda s: (s[1] * s[2], s[0]),
    lambda t, s: t.reshape(s[1], s[2], s[0]).transpose(2, 0, 1),
)
_OUT_OF_HEADS: Form = (
    lambda s: (s[2], s[0] * s[1]),
    lambda t, s: t.T.reshape(s),
)
_BY_HEAD: Form = (lambda s: (s[0] * s[1],), lambda t, s: t.reshape(s))

_FORMS: dict[str, Form] = {
    "attention/query": _INTO_HEADS,
    "attention/key": _INTO_HEADS,
    "attention/value": _INTO_HEADS,
    "attention/output": _OUT_OF_HEADS,
    "attention/query_bias": _BY_HEAD,
    "attention/key_bias": _BY_HEAD,
    "attention/value_bias": _BY_HEAD,
    "mlp/router": _TURNED,
    "mlp/gate": _TURNED,
    "mlp/up": _TURNED,
    "mlp/down": _TURNED,
}
