"""A check that `losses`, `models` and `runner` are all Retort's own."""

import importlib.util
import pathlib

from runner.errors import UserError

FLAT = ("losses", "models")


def check() -> None:
    """Refuse a foreign package that precedes ours on the import path.

    Raises:
      UserError: one is missing or lies elsewhere; with both places.
    """
    home = pathlib.Path(__file__).resolve().parents[2]
    for name in FLAT:
        spec = importlib.util.find_spec(name)
        places = [*(spec.submodule_search_locations or [])] if spec else []
        directory = pathlib.Path(places[0] if places else (spec and spec.origin) or "")
        if not spec:
            raise UserError(f"package '{name}' is missing; expected in {home}")
        if directory.resolve() != home / name:
            raise UserError(
                f"package '{name}' is a foreign one, {directory.resolve()}; "
                f"expected {home / name}"
            )
