"""The data that a config file or node of it names, as rows."""

import fiddle as fdl

from runner.data.dataset import Dataset
from runner.data.source import DataSource
from runner.errors import UserError
from runner.graph import build, read

FIELDS = ("train_data", "data")  # of an experiment, of a recording


def dataset_of(spec: str) -> Dataset:
    """Load the training data of a config, or the data that it is.

    Args:
      spec: `configs/distill.py`, `file.py:function`, or a saved `config.json`; an
        experiment, a recording, or data.

    Raises:
      UserError: There is no such graph, or it names no data.
    """
    cfg, _ = read.read(spec)
    source = build.objects(_data_of(cfg))
    if not isinstance(source, DataSource):
        raise UserError(
            f"--data={spec}: its root has neither {' nor '.join(FIELDS)}, and is none"
        )
    return source.load()


def _data_of(cfg: fdl.Buildable) -> fdl.Buildable:
    """The node of the data that a graph reads; the graph itself where it is data."""
    kind = fdl.get_callable(cfg)
    if isinstance(kind, type) and issubclass(kind, DataSource):
        return cfg
    nodes = (getattr(cfg, field, None) for field in FIELDS)
    return next((node for node in nodes if isinstance(node, fdl.Buildable)), cfg)
