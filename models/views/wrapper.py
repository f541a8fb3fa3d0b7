"""A model that runs over other views of its batch too."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
from flax import nnx

from models.base import Batch, Model, TrunkOutput, check_capture
from models.views.view import View

PREFIX = "view/"


def Views(
    *, model: Callable[..., Model], views: Mapping[str, View], rngs: nnx.Rngs
) -> Model:
    """Return `model` whose trunk runs over other views of its batch besides.

    It offers `view/NAME/logits`, `view/NAME/trunk` (what the head reads) and
    `view/NAME/PATH` of every path that it offers anyway; `losses.OnView` puts them in
    the place of those of the batch. Parameters keep their paths and initial values. A
    view is computed where a term, or a metric, reads it, and costs nothing else.

    Args:
      model: called with `rngs=`.
      views: by name.
      rngs: of the initial values.

    Raises:
      ValueError: there are no views, a name is no identifier, or the model has views.
    """
    if not views:
        raise ValueError("views must hold at least one view")
    for name in views:
        if not name.isidentifier():
            raise ValueError(f"the name of a view must be an identifier, got {name!r}")
    viewed = model(rngs=rngs)
    if viewed.views:
        raise ValueError("model has views already")
    object.__setattr__(viewed, "__class__", _viewed(type(viewed)))
    viewed.views = tuple(sorted(views.items()))
    viewed.draws |= any(view.draws for view in views.values())
    return viewed


def with_views(model: Model, batch: Batch, names: Iterable[str]) -> Batch:
    """Return the batch with what views change of it, as `view/NAME/ENTRY`.

    The model's trunk reads them there and makes none of them again; another model sees
    them by `view_of`. They have no gradient.

    Args:
      model: with these views.
      batch: arrays `[b ...]`.
      names: of the views.
    """
    views, still, changes = dict(model.views), _still(model), {}
    for name in sorted(names):
        changes |= {
            f"{PREFIX}{name}/{entry}": jax.lax.stop_gradient(x)
            for entry, x in views[name](still, batch).items()
            if x is not batch.get(entry)
        }
    return {**batch, **changes}


def view_of(batch: Batch, name: str) -> Batch | None:
    """Return a view that `with_views` put into a batch; None where it is not there."""
    prefix = f"{PREFIX}{name}/"
    entries = {
        path.removeprefix(prefix): x
        for path, x in batch.items()
        if path.startswith(prefix)
    }
    return {**batch, **entries} if entries else None


@functools.cache
def _viewed(base: type[Model]) -> type[Model]:
    """Return the class of `base` with views: one for each class, since nnx compares."""

    class Viewed(base):
        def offers(self) -> frozenset[str]:
            own = super().offers()
            paths = own | {"logits", "trunk"}
            return own | {
                f"{PREFIX}{name}/{path}" for name, _ in self.views for path in paths
            }

        def check_batch(self, batch: Mapping[str, Any]) -> None:
            super().check_batch(batch)
            for _, view in self.views:
                view.check_batch(self, batch)

        def trunk(
            self,
            batch: Batch,
            *,
            capture: frozenset[str] = frozenset(),
            remat: str = "none",
        ) -> TrunkOutput:
            of_views = frozenset(path for path in capture if path.startswith(PREFIX))
            own = super().trunk(batch, capture=capture - of_views, remat=remat)
            if not of_views:
                return own
            check_capture(capture, self.offers())
            still = _still(self)
            captured = dict(own.intermediates)
            for name, view in self.views:
                prefix = f"{PREFIX}{name}/"
                paths = {
                    p.removeprefix(prefix) for p in of_views if p.startswith(prefix)
                }
                if not paths:
                    continue
                outputs = super().trunk(
                    view_of(batch, name) or view(still, batch),
                    capture=frozenset(paths - {"logits", "trunk"}),
                    remat=remat,
                )
                every = {**outputs.intermediates, "trunk": outputs.hidden}
                if "logits" in paths:
                    every["logits"] = self.head(outputs.hidden)
                captured |= {prefix + path: every[path] for path in paths}
            return TrunkOutput(hidden=own.hidden, intermediates=captured)

    Viewed.__name__, Viewed.__qualname__ = base.__name__, base.__qualname__
    return Viewed


def _still(model: Model) -> Model:
    """Return the model with its parameters' gradients stopped."""
    graph, state = nnx.split(model)
    return nnx.merge(graph, jax.lax.stop_gradient(state))
