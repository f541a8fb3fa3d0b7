"""Copies of the fixtures, with other entries or tensors."""

import json
import shutil
from pathlib import Path

from safetensors.numpy import load_file, save_file

from tests.models.pretrained.tables import FIXTURES


def changed(folder: Path, family: str, drop=(), **entries) -> Path:
    """A copy of a fixture with other entries in `config.json`."""
    copy = folder / family
    shutil.copytree(FIXTURES / family, copy)
    (copy / "expected.safetensors").unlink()
    config = json.loads((copy / "config.json").read_text()) | entries
    config = {name: value for name, value in config.items() if name not in drop}
    (copy / "config.json").write_text(json.dumps(config))
    return copy


def retensored(folder: Path, family: str, change, **entries) -> Path:
    """A copy of a fixture with `change` made to its dict of tensors."""
    copy = changed(folder, family, **entries)
    tensors = load_file(copy / "model.safetensors")
    change(tensors)
    save_file(tensors, copy / "model.safetensors")
    return copy
