"""Pages of the site that are made from the code and the files of the root; formulas."""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import losses
from docs import mathml
from runner.cli import catalog, reference

ROOT = Path(__file__).parents[1]
OF_THE_ROOT = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the root's files and the reference to the site."""
    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Draw the formulas of a page, those of docstrings above all."""
    return mathml.in_page(html)


def pages() -> dict[str, str]:
    """Return the text of each page that has no file in `docs/`, by its path."""
    made = {
        page: _moved((ROOT / name).read_text()) for name, page in OF_THE_ROOT.items()
    }
    for kind in catalog.KINDS:
        if kind != "metrics":  # any loss
            made[f"reference/{kind}.md"] = _kind(kind)
    functions = [getattr(losses.functional, name) for name in _functions()]
    made["reference/functional.md"] = _page("Losses as functions", functions)
    made["reference/settings.md"] = _settings()
    return made


def _moved(text: str) -> str:
    """Return a file of the root with its links as they are from `docs/`."""
    for name, page in OF_THE_ROOT.items():
        text = text.replace(f"]({name}", f"]({page}")
    text = re.sub(r"\]\((?:\.\./)?docs/", "](", text)
    # What is no page is named, not linked.
    return re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]*\.(?:py|toml|sh)\)", r"\1", text)


def _kind(kind: str) -> str:
    return _page(kind.capitalize(), catalog.values(kind))


def _page(title: str, values: list) -> str:
    parts = [f"::: {value.__module__}.{value.__qualname__}" for value in values]
    return "\n\n".join([f"# {title}", *parts]) + "\n"


def _functions() -> list[str]:
    return [
        name
        for name, value in vars(losses.functional).items()
        if callable(value) and not name.startswith("_")
    ]


def _settings() -> str:
    lines = [
        "# Settings of gin",
        "",
        "What must not change a result: `--gin.loop.log_every=50`, or a file of such",
        "lines, `--gin_file=configs/runtime/cpu.gin`.",
        "",
        "| setting and default | type | meaning |",
        "|---|---|---|",
    ]
    for setting, kind, text in reference.settings():
        cells = (f"`{setting}`", f"`{kind}`", text)
        lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    return "\n".join(lines) + "\n"
