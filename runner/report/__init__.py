"""One page about a run, or about several, from the files in their work directories.

    page = report.write("/tmp/moe_zloss")     # .../report.html, pictures in report/
    print(report.table("/tmp/moe_zloss"))     # the same result, for a terminal
    print(report.compare(["runs/labels", "distilled=runs/offline", "runs/records"]))

All read nothing but work directories, so they work on any run at any time: on one that
is still going on, was stopped, or was moved from another machine.
"""

from collections.abc import Sequence
from pathlib import Path

from runner import atomic_files
from runner.errors import UserError
from runner.files import confined
from runner.report import results, run, sweep_units, terms

__all__ = ["compare", "table", "write"]


def write(workdir: str | Path) -> Path:
    """Write `report.html` and the pictures it shows; return the page's path.

    Raises:
      UserError: the directory holds no run, or a link that leads out of it.
    """
    from runner.report import curves, page  # Matplotlib: only for those who draw.

    loaded = run.load(workdir)
    confined.refuse_links(loaded.workdir)
    pictures = curves.draw(loaded, directory=loaded.workdir / "report")
    path = loaded.workdir / "report.html"
    atomic_files.write_atomic(path, page.html(loaded, pictures))
    return path


def table(workdir: str | Path, *, next_command: str = "") -> str:
    """Return evaluations beside baselines, best last, for a terminal.

    Below it where the page is, if there is one, and what to try next.

    Raises:
      UserError: the directory holds no run.
    """
    loaded = run.load(workdir)
    lines = [
        results.text(
            results.rows(loaded), notes=results.notes(loaded), unit=loaded.unit
        ),
        *terms.text(loaded),
        "",
    ]
    if (page := loaded.workdir / "report.html").exists():
        lines.append(f"  report:   {page}")
    if next_command:
        lines.append(f"  try next: {next_command}")
    return "\n".join(lines).rstrip()


def compare(arguments: Sequence[str], *, to: str | None = None) -> str:
    """Return one table of several work directories, each `DIR` or `NAME=DIR`.

    A sweep's directory stands for its units that have begun, each named by what it
    differs in. Writes `comparison.html` into `to`, by default into a sweep or beside a
    run, whichever is first, and says where it is.

    Raises:
      UserError: a directory holds no run, or `to` cannot be written.
    """
    from runner.report import comparison, comparison_page

    entries = comparison.entries(arguments)
    _, first = comparison.split(arguments[0])
    beside = first if sweep_units.is_sweep(first) else entries[0].run.workdir.parent
    directory = Path(to or beside).absolute()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if (directory / comparison_page.FOLDER).is_symlink():
            folder = directory / comparison_page.FOLDER
            raise UserError(f"{folder} is a link: move it, or name another --to=DIR")
        page = comparison_page.write(entries, directory)
    except OSError as error:
        raise UserError(f"{directory}: {error.strerror}") from None
    return f"{comparison.text(entries)}\n\n  page: {page}"
