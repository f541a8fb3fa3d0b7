"""Names under which one flag reaches a field of many objects in a graph."""

import fiddle as fdl


class DType(fdl.Tag):
    """Type of activations and of the inputs of matrix products: `"bfloat16"`."""


class ParamDType(fdl.Tag):
    """Type in which parameters are stored and updated: `"float32"`."""


DTYPES = ("float32", "bfloat16", "float16")


def check_dtype(name: str, value: str) -> str:
    """`value`, or ValueError with the types there are; `name` is the field's."""
    if value not in DTYPES:
        raise ValueError(f"{name} must be one of {DTYPES}, got {value!r}")
    return value
