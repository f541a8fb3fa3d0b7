"""Units of loss terms and metrics, from the classes of their losses and their masks."""

import re
import sys

import losses
from losses.renamed import RENAMED
from runner.report.run import Run

_AVERAGE = "average"
_COUNTED = {"pair_mask": "pair", "sequence_mask": "sequence"}
"""What a mask of one token for each of something counts."""


def of_loss(unit: str) -> str:
    """Return the unit of an evaluation's loss, such as `"nats per token"`.

    Args:
      unit: `Dataset.unit`; a moment of a series has numbers, no classes.
    """
    return "mean error" if unit == "moment" else f"nats per {unit}"


def of_term(run: Run, term: str) -> str:
    """Return the unit of a term, such as `"nats per token"` or `"nats per pair"`.

    It is an average of unknown unit where the loss has none, the term is a group, or
    its class no longer imports: a run may be older than the code, or from elsewhere.
    """
    field = "loss"
    kind = _class(run.of_term(term, field))
    unit = _unit(kind)
    while not isinstance(unit, str):  # a loss around another has the other's unit
        field += ".loss"
        unit = _unit(_class(run.of_term(term, field)))
    return f"{unit} {_per(run, kind, run.of_term(term, 'mask'))}"


def of_metric(run: Run, evaluation: str, metric: str) -> str:
    """Return the unit of a metric of one's own, such as `"average per pair"`."""
    place = rf"evaluations\.{re.escape(evaluation)}\.metrics\[\d+\]"
    for path, value in run.config.items():
        if re.fullmatch(place, path) and _is_named(run, path, value, metric):
            unit = _unit(kind := _class(value))
            unit = unit if isinstance(unit, str) else _AVERAGE
            return f"{unit} {_per(run, kind)}"
    return f"{_AVERAGE} per {run.unit}"


def of_total(run: Run) -> str:
    """Return the unit of the weighted sum of the terms."""
    pers = {of_term(run, term).rpartition(" per ")[2] for term in run.terms}
    pers = pers or {run.unit}
    return f"per {pers.pop()}" if len(pers) == 1 else "each an average of its own"


def _is_named(run: Run, path: str, value: str, metric: str) -> bool:
    """Return whether a metric of the graph is logged as `metric`.

    Its name is a field, or that of its class in snake case.
    """
    name = run.config.get(f"{path}.name", "").strip("'\"")
    own = value.rpartition(".")[2].rstrip(")").lower()
    return metric == name or metric.replace("_", "") == own


def _per(run: Run, kind: object, mask: str = "") -> str:
    """Return what the values are averages over: `"per token"`, `"per pair"`."""
    if mask in ("", "None"):  # that of the class
        mask = getattr(getattr(kind, "default_mask", None), "__name__", "")
    if isinstance(kind, type) and issubclass(kind, losses.OfRows):
        return "of a batch"
    return f"per {_COUNTED.get(mask.removeprefix('losses.'), run.unit)}"


def _class(value: str) -> object:
    """Return the loss that a line of `config.txt` names; None for anything else."""
    name = re.fullmatch(r"(?:partial\()?([\w.]+)\.(\w+)\)?", value)
    if name is None:
        return None
    # The file may come from a stranger: it never decides what is imported.
    module, attribute = name.groups()
    if module == losses.__name__:
        attribute = RENAMED.get(attribute, attribute)
    loss = getattr(sys.modules.get(module), attribute, None)
    return loss if isinstance(loss, type) and issubclass(loss, losses.Loss) else None


def _unit(kind: object) -> object:
    """Return `unit` of a class; no text where another loss has it."""
    unit = getattr(kind, "unit", _AVERAGE)
    return _AVERAGE if unit == "1" else unit
