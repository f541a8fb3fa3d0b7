"""`python -m runner.sweeps DIR`: write the state and the table of a sweep anew."""

import sys

from runner import sweeps
from runner.errors import UserError


def main(arguments: list[str]) -> int:
    """Return the exit code: 2 when the directory holds no sweep."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m runner.sweeps DIR", file=sys.stderr)
        return 2
    try:
        frozen = sweeps.load(arguments[0])
        sweeps.summarize(frozen)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
