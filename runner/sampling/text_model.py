"""A model that writes text: its weights, its tokenizer, and the ends of its texts."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from models import Transformer, sharding
from runner import runtime
from runner.data.text.tokenizer import TokenizerFile, TokenizerSource
from runner.data.text.vocabulary import Vocabulary
from runner.errors import UserError
from runner.machine import compiled_programs
from runner.machine import mesh as mesh_lib
from runner.teachers.base import TeacherContext
from runner.teachers.online import LoadedOnline
from runner.weights import location
from runner.weights.base import Weights
from runner.weights.identity import TOKENIZER
from runner.weights.location import Location
from runner.weights.run import RunWeights


@dataclasses.dataclass(frozen=True)
class TextModel:
    """A model on the devices, and what its ids mean.

    Attributes:
      model: The model.
      vocabulary: Of its ids.
      begin: Ids before the first one of a text.
      ends: Ids that end a text.
      context: Positions of the longest text it was made for; None where unsaid.
      mesh: The devices.
      rules: From logical axes to mesh axes.
    """

    model: Transformer
    vocabulary: Vocabulary
    begin: tuple[int, ...]
    ends: tuple[int, ...]
    context: int | None
    mesh: jax.sharding.Mesh
    rules: sharding.Rules


def load(
    where: Location,
    *,
    settings: Mapping[str, Any] | None = None,
    tokenizer: TokenizerSource | None = None,
    config: runtime.Runtime,
) -> TextModel:
    """Return the model at a location, in the types that its files store.

    A run of ours begins a text as its training data did; a published model as its
    tokenizer does, which may be with nothing.

    Args:
      where: Of a work directory, a published folder or a `.gguf` file.
      settings: Entries of `config.json` in place of a published model's own.
      tokenizer: In place of the one among the files.
      config: The runtime settings.

    Raises:
      UserError: There is no such model, or it writes no text.
    """
    weights = location.open_at(where, settings)
    compiled_programs.keep(config.compilation)
    cache, mesh = config.input.cache, mesh_lib.make(config.mesh)
    vocabulary = (tokenizer or _tokenizer(where, weights)).load(cache=cache)
    loaded = LoadedOnline(
        weights.model,
        weights,
        TeacherContext(
            vocabulary=vocabulary, mesh=mesh, rules=config.mesh.rules, cache=cache
        ),
        name=str(where),
        as_stored=True,
    )
    arrays = loaded.read()
    model = loaded.make(arrays["params"], arrays["variables"])
    if not isinstance(model, Transformer):
        raise UserError(f"{where}: a {type(model).__name__} writes no text")
    ours = isinstance(weights, RunWeights)
    return TextModel(
        model=model,
        vocabulary=vocabulary,
        begin=(vocabulary.begin,) if ours else vocabulary.ends.begin,
        ends=_run_ends(vocabulary) if ours else _ends(where, vocabulary, settings),
        context=weights.context,
        mesh=mesh,
        rules=config.mesh.rules,
    )


def _tokenizer(where: Location, weights: Weights) -> TokenizerSource:
    from models import pretrained
    from runner.data import GGUFTokenizer

    if isinstance(weights, RunWeights):
        path = Path(where.path).expanduser()
    else:
        path = pretrained.locate(where.path)
        if not path.is_dir():
            return GGUFTokenizer(file=where.path)
    if not (path / TOKENIZER).is_file():
        raise UserError(
            f"{where}: no {TOKENIZER}, without which it writes no text; "
            "if you have it elsewhere: --tokenizer=FILE"
        )
    return TokenizerFile(file=str(path / TOKENIZER))


def _run_ends(vocabulary: Vocabulary) -> tuple[int, ...]:
    """Return the end of a document of the data, and of what the tokenizer writes."""
    return tuple(dict.fromkeys((vocabulary.end, *vocabulary.stops)))


def _ends(
    where: Location, vocabulary: Vocabulary, settings: Mapping[str, Any] | None
) -> tuple[int, ...]:
    """Return the ends that a published model's files name, that of a document too."""
    from models import pretrained

    ids = (
        *pretrained.open_model(where.path, settings=settings).end_ids,
        *vocabulary.ends.end,
    )
    return tuple(dict.fromkeys(ids))
