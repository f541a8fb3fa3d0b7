"""Names under which one flag reaches a field of many objects in a graph."""

import fiddle as fdl


class DType(fdl.Tag):
    """Type of activations and of the inputs of matrix products: `"bfloat16"`."""


class ParamDType(fdl.Tag):
    """Type in which parameters are stored and updated: `"float32"`."""
