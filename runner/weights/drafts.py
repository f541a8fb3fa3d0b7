"""The layers of a draft, left out of what is handed on."""

from models.base import unwrapped
from models.drafting.wrapper import PREFIX, Drafted
from runner.weights.adapters import Merged


def left_out(whole: Merged) -> Merged:
    """Return a model without the layers of `models.Drafted`, and their arrays."""
    tensors = {p: x for p, x in whole.tensors.items() if not p.startswith(PREFIX)}
    return Merged(unwrapped(whole.model, Drafted), tensors)
