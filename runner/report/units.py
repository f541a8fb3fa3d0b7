"""Units of loss terms, from the classes of their losses."""

import re
import sys

import losses
from losses.renamed import RENAMED
from runner.report.run import Run

_AVERAGE = "average"


def of_term(run: Run, term: str) -> str:
    """Return the unit of a term, such as `"nats per token"`.

    It is an average of unknown unit where the loss has none, the term is a group, or
    its class no longer imports: a run may be older than the code, or from elsewhere.
    """
    field = "loss"
    unit = _unit(run.of_term(term, field))
    while not isinstance(unit, str):  # a loss around another has the other's unit
        field += ".loss"
        unit = _unit(run.of_term(term, field))
    return f"{unit} per {run.unit}"


def _unit(value: str) -> object:
    """Return `unit` of the class that a line of `config.txt` names."""
    name = re.fullmatch(r"(?:partial\()?([\w.]+)\.(\w+)\)?", value)
    if name is None:
        return _AVERAGE
    # The file may come from a stranger: it never decides what is imported.
    module, attribute = name.groups()
    if module == losses.__name__:
        attribute = RENAMED.get(attribute, attribute)
    loss = getattr(sys.modules.get(module), attribute, None)
    if not (isinstance(loss, type) and issubclass(loss, losses.Loss)):
        return _AVERAGE
    unit = loss.unit
    return _AVERAGE if unit == "1" else unit
