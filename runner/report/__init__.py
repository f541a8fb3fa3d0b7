"""One page about a run, from the files in its work directory.

    page = report.write("/tmp/moe_zloss")     # .../report.html, pictures in report/
    print(report.table("/tmp/moe_zloss"))     # the same result, for a terminal

Both read nothing but the work directory, so they work on any run at any time: on one
that is still going on, was stopped, or was moved from another machine.
"""

from pathlib import Path

from runner.report import results, run

__all__ = ["table", "write"]


def write(workdir: str | Path) -> Path:
    """Writes `report.html` and the pictures it shows; returns the page's path.

    Raises:
      UserError: the directory holds no run.
    """
    from runner.report import curves, page  # Matplotlib: only for those who draw.

    loaded = run.load(workdir)
    pictures = curves.draw(loaded, directory=loaded.workdir / "report")
    path = loaded.workdir / "report.html"
    path.write_text(page.html(loaded, pictures), encoding="utf-8")
    return path


def table(workdir: str | Path, *, next_command: str = "") -> str:
    """Evaluations beside baselines, best last, for a terminal.

    Below it where the page is, if there is one, and what to try next.

    Raises:
      UserError: the directory holds no run.
    """
    loaded = run.load(workdir)
    lines = [results.text(results.rows(loaded), notes=results.notes(loaded)), ""]
    if (page := loaded.workdir / "report.html").exists():
        lines.append(f"  report:   {page}")
    if next_command:
        lines.append(f"  try next: {next_command}")
    return "\n".join(lines).rstrip()
