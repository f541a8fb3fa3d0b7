"""The adapters that peft saved, and students of the models that they are for."""

from pathlib import Path

import fiddle as fdl

from models import pretrained
from runner.data.labels import Classes
from tests.models.pretrained.tables import FIXTURES

ADAPTERS = Path(__file__).parent / "peft_adapters"
BASES = {path.name: "smollm2" for path in ADAPTERS.iterdir()} | {"all_kernels": "llama"}


class Words:
    """Data that nobody reads, of any vocabulary."""

    vocabulary = Classes([str(i) for i in range(64)])


def student(family, **fields):
    return fdl.copy_with(
        pretrained.student.as_buildable(str(FIXTURES / family)), **fields
    )


def take_any_vocabulary(monkeypatch):
    from runner.weights.published import PublishedWeights

    monkeypatch.setattr(PublishedWeights, "check_vocabulary", lambda *_, **__: None)
