"""Forms of published tensors beside those of our arrays, by role."""

from collections.abc import Callable

import numpy as np

from models import layers

Shape = tuple[int, ...]


def by_layer(path: str, shape: Shape) -> dict[str, Shape]:
    """Return shapes by path, `blocks/stacked/mlp/up` as `blocks/0/mlp/up` ..."""
    names = path.split("/")
    if not layers.is_stacked(names):
        return {path: shape}
    rest = "/".join(names[2:])
    return {f"blocks/{layer}/{rest}": shape[1:] for layer in range(shape[0])}


def role(path: str) -> tuple[str, int]:
    """Split `blocks/3/mlp/up` into `mlp/up` and 3."""
    if not path.startswith("blocks/"):
        return path, 0
    _, layer, rest = path.split("/", 2)
    return rest, int(layer)


def of(role: str) -> "Form":
    """Return the form of a role's tensors."""
    return _FORMS.get(role, _AS_IT_IS)


# The shape of the published tensor by that of our array, and the conversion there and
# back. Published matrices are `[outputs, inputs]`, with heads and their features on one
# axis.
Convert = Callable[[np.ndarray, Shape], np.ndarray]
Form = tuple[Callable[[Shape], Shape], Convert, Convert]

_AS_IT_IS: Form = (lambda s: s, lambda t, s: t, lambda t, s: t)
_TRANSPOSED: Form = (
    lambda s: (*s[:-2], s[-1], s[-2]),
    lambda t, s: np.swapaxes(t, -1, -2),
    lambda t, s: np.swapaxes(t, -1, -2),
)
_INTO_HEADS: Form = (
    lambda s: (s[1] * s[2], s[0]),
    lambda t, s: t.reshape(s[1], s[2], s[0]).transpose(2, 0, 1),
    lambda t, s: t.reshape(s[0], s[1] * s[2]).T,
)
_OUT_OF_HEADS: Form = (
    lambda s: (s[2], s[0] * s[1]),
    lambda t, s: t.T.reshape(s),
    lambda t, s: t.reshape(s[0] * s[1], s[2]).T,
)
_BY_HEAD: Form = (
    lambda s: (s[0] * s[1],),
    lambda t, s: t.reshape(s),
    lambda t, s: t.reshape(s[0] * s[1]),
)

_FORMS: dict[str, Form] = {
    "attention/query": _INTO_HEADS,
    "attention/key": _INTO_HEADS,
    "attention/value": _INTO_HEADS,
    "attention/query_latent": _TRANSPOSED,
    "attention/query_up": _INTO_HEADS,
    "attention/latent": _TRANSPOSED,
    "attention/key_value": _INTO_HEADS,
    "attention/output": _OUT_OF_HEADS,
    "attention/query_bias": _BY_HEAD,
    "attention/key_bias": _BY_HEAD,
    "attention/value_bias": _BY_HEAD,
    "mlp/router": _TRANSPOSED,
    "mlp/shared/gate": _TRANSPOSED,
    "mlp/shared/up": _TRANSPOSED,
    "mlp/shared/down": _TRANSPOSED,
    "mlp/shared_gate": _TRANSPOSED,
    "mlp/gate": _TRANSPOSED,
    "mlp/up": _TRANSPOSED,
    "mlp/down": _TRANSPOSED,
}
