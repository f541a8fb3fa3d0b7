"""The end of a sweep: a table, a picture and the page that shows both.

SWEEP/sweep.md  SWEEP/results.json       the table, for a reader and for a program
SWEEP/evidence.csv  SWEEP/evidence.tex   settings compared over seeds
SWEEP/report.html  SWEEP/sweep.svg ...   the page and its pictures
"""

import json

from runner import atomic_files
from runner.evidence import tables
from runner.files import confined, early_line
from runner.sweeps import outcome, seeds, table
from runner.sweeps.frozen import Frozen


def summarize(frozen: Frozen) -> None:
    """Write the table and the picture, and print the table.

    Works on an unfinished sweep too.

    Raises:
      UserError: the directory holds a link that leads out of it.
    """
    from runner.sweeps import page  # Matplotlib: only for those who draw.

    confined.refuse_links(frozen.path)
    outcomes = outcome.read(frozen)
    atomic_files.write_atomic(
        frozen.path / "sweep.md", table.markdown(frozen, outcomes)
    )
    results = json.dumps(table.results(frozen, outcomes), indent=1) + "\n"
    atomic_files.write_atomic(frozen.path / "results.json", results)
    if compared := seeds.comparisons(frozen, outcomes):
        csv, latex = tables.to_csv(compared), tables.latex(compared)
        atomic_files.write_atomic(frozen.path / "evidence.csv", csv)
        atomic_files.write_atomic(frozen.path / "evidence.tex", latex)
    report = page.write(frozen, outcomes)
    early_line.clear()
    print(f"\n{table.text(frozen, outcomes)}\n\n  report:   {report}", flush=True)
