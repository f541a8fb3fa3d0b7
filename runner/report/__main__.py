"""`runner report [--to=DIR] [NAME=]DIR ...`: a page and a table of work directories.

Of one, its own `report.html`, written anew. Of several, each of which may be given a
name, `comparison.html`: one file with every curve, and pictures of them beside it.
"""

import sys

from runner import report
from runner.errors import UserError
from runner.report.comparison import entries, split
from runner.report.sweep_units import is_sweep

USAGE = """\
usage: runner report [--to=DIR] [NAME=]WORKDIR ...

One work directory: its report.html anew, and its table.
Several, or a sweep: one table, and comparison.html with every curve, in DIR (by default
in the sweep, or beside the first run), which can be mailed; comparison/ holds the same
as pictures.
"""


def main(arguments: list[str]) -> int:
    """Print the table; return the exit code, 2 when a directory holds no run."""
    if not {"--help", "-h"}.isdisjoint(arguments):
        print(USAGE, end="")
        return 0
    options = [x for x in arguments if x.startswith("-")]
    runs = [x for x in arguments if not x.startswith("-")]
    to = [x.removeprefix("--to=") for x in options if x.startswith("--to=")]
    try:
        _check(runs, options)
        if runs[1:] or is_sweep(split(runs[0])[1]):
            print(report.compare(runs, to=next(iter(to), None)))
            return 0
        if to:
            raise UserError(
                f"--to={to[0]}: the page of one run stands in its directory"
            )
        (one,) = entries(runs)
        if one.records is not None:
            raise UserError(
                f"{one.run.workdir} holds teacher records and no run; "
                f"runner-records inspect {one.run.workdir} shows them"
            )
        report.write(runs[0])
        print(report.table(runs[0]))
    except UserError as error:
        print(f"runner report: {error}", file=sys.stderr)
        return 2
    return 0


def _check(runs: list[str], options: list[str]) -> None:
    """Refuse a line without a directory, and any option but one `--to=DIR`."""
    more = "(--help says what it takes)"
    for option in options:
        if not option.startswith("--to=") or option == "--to=":
            raise UserError(f"unexpected {option}; expected --to=DIR {more}")
    if options[1:]:
        raise UserError(f"--to is given twice: {' '.join(options)}")
    if not runs:
        raise UserError(f"no work directory is given {more}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
