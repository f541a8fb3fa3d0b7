"""The plan of an export: refuses what a format cannot say, then writes."""

from runner.errors import UserError
from runner.export.base import Plan
from runner.export.gguf_plan import GGUFPlan
from runner.export.hf_plan import HFPlan
from runner.export.peft_plan import PeftPlan
from runner.export.student import Student

_KINDS: dict[str, type[Plan]] = {"hf": HFPlan, "gguf": GGUFPlan, "peft": PeftPlan}


def plan(student: Student, *, format: str, dtype: str, name: str) -> Plan:
    """Return the plan for a format, which has been found to say all that it must.

    Args:
      student: to write.
      format: `"hf"`, `"gguf"` or `"peft"`.
      dtype: of the weights; "" is that of the parameters.
      name: of the model.

    Raises:
      UserError: the model or its tokenizer has no form there.
    """
    try:
        return _KINDS[format].of(student, dtype=dtype, name=name)
    except ValueError as error:
        raise UserError(str(error)) from error
