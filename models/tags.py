"""Names under which one flag reaches a field of many objects in a graph."""

import fiddle as fdl

from models import checks


class DType(fdl.Tag):
    """Type of activations and of the inputs of matrix products: `"bfloat16"`."""


class ParamDType(fdl.Tag):
    """Type in which parameters are stored and updated: `"float32"`."""


DTYPES = ("float32", "bfloat16", "float16")


def check_dtypes(*, dtype: str, param_dtype: str) -> None:
    """Refuse types that are not in `DTYPES`.

    Raises:
      ValueError: with the field, its value and the types there are.
    """
    checks.one_of("dtype", dtype, DTYPES)
    checks.one_of("param_dtype", param_dtype, DTYPES)
