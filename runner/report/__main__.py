"""`python -m runner.report DIR`: writes the page anew and prints the table."""

import sys

from runner import report
from runner.errors import UserError


def main(arguments: list[str]) -> int:
    """The exit code: 2 when the directory holds no run."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m runner.report WORKDIR", file=sys.stderr)
        return 2
    try:
        report.write(arguments[0])
        print(report.table(arguments[0]))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
