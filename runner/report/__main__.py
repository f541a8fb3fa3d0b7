"""`python -m runner.report DIR [DIR ...]`: writes the page anew and prints the table.

Of several work directories, each of which may be given a name (`NAME=DIR`), one page
and one table.
"""

import sys

from runner import report
from runner.errors import UserError


def main(arguments: list[str]) -> int:
    """Print the table; return the exit code, 2 when a directory holds no run."""
    if not arguments or any(argument.startswith("-") for argument in arguments):
        print("usage: python -m runner.report [NAME=]WORKDIR ...", file=sys.stderr)
        return 2
    try:
        if arguments[1:]:
            print(report.compare(arguments))
            return 0
        report.write(arguments[0])
        print(report.table(arguments[0]))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
