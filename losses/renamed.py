"""Exported names of before a rename, kept for one release."""

import warnings
from typing import Any

RENAMED = {
    "AdaptiveKl": "AdaptiveKL",
    "AttentionKl": "AttentionKL",
    "AttentionMse": "AttentionMSE",
    "BinaryKl": "BinaryKL",
    "BinaryKlNorm": "BinaryKLNorm",
    "Cka": "CKA",
    "DecoupledKd": "DecoupledKD",
    "FeatureMse": "FeatureMSE",
    "ForwardKl": "ForwardKL",
    "LogitMse": "LogitMSE",
    "NormalisedKd": "NormalizedKD",
    "ReverseKl": "ReverseKL",
    "SkewForwardKl": "SkewForwardKL",
    "SkewReverseKl": "SkewReverseKL",
    "Standardised": "Standardized",
    "SymmetricKl": "SymmetricKL",
}


def add_to(namespace: dict[str, Any]) -> None:
    """Give a package a `__getattr__` that warns of old names.

    Set here, not written in the package, so that type checkers still refuse names that
    it does not have.
    """

    def get(name: str) -> Any:
        package = namespace["__name__"]
        if name not in RENAMED:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        warnings.warn(
            f"{package}.{name} is now {package}.{RENAMED[name]}",
            DeprecationWarning,
            stacklevel=2,
        )
        return namespace[RENAMED[name]]

    namespace["__getattr__"] = get
