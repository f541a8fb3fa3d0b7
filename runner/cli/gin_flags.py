"""Runtime settings from the command line into gin, checked before they are bound."""

import difflib
import io
import pathlib
import tokenize
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from runner.cli.flags import Flag
from runner.errors import UserError, nearest
from runner.files import form, installed
from runner.graph import literals


def apply(flags: Sequence[Flag]) -> None:
    """Bind `gin_file`, `gin_bindings` and `gin.section.name` strictly left to right.

    Raises:
      UserError: a section, name, type or value is not one of `runner.runtime`.
    """
    import gin

    from runner import runtime

    gin.clear_config()
    for flag in flags:
        for where, name, value in _settings(flag):
            section, field = _section_and_field(where, name)
            gin.bind_parameter(f"{section}.{field}", _read_value(where, name, value))
    try:
        runtime.current()
    except ValueError as error:
        raise UserError(str(error).strip().splitlines()[0]) from None


def read_file(path: str) -> Iterator[tuple[str, str, Any]]:
    """Yield the place (for messages), `section.field` and value of each binding.

    Raises:
      UserError: it is no such file.
    """
    return _statements(_contents(path, path), path)


class _Text(str):
    """The value of `--gin.x.y=value`: bare words may stand for strings."""


class _Name(str):
    """`@function` or `%macro` in a gin file."""


def _settings(flag: Flag) -> Iterator[tuple[str, str, Any]]:
    """Yield the source (for messages), `section.field` and the value."""
    if flag.name == "gin_file":
        yield from _statements(_contents(str(flag), flag.value), flag.value)
    elif flag.name == "gin_bindings":
        yield from _statements(flag.value, str(flag))
    else:
        yield str(flag), flag.name.removeprefix("gin."), _Text(flag.value)


def _contents(flag: str, path: str) -> str:
    file = pathlib.Path(path)
    if path.startswith(installed.PREFIX):
        file = installed.find(f"runtime/{path.removeprefix(installed.PREFIX)}.gin")
    try:
        return form.read_text(file)
    except (FileNotFoundError, NotADirectoryError):
        beside = [p.name for p in file.parent.glob("*.gin")]
        close = difflib.get_close_matches(file.name, beside, n=1)
        hint = f"; did you mean '{file.parent / close[0]}'?" if close else ""
        raise UserError(f"{flag}: no such file{hint}") from None
    except OSError as error:
        raise UserError(f"{flag}: {error.strerror}") from None
    except form.Malformed as error:
        raise UserError(f"{flag}: {error}") from None


def _statements(text: str, source: str) -> Iterator[tuple[str, str, Any]]:
    from gin import config_parser

    class Names(config_parser.ParserDelegate):
        def configurable_reference(self, scoped_configurable_name, evaluate):
            return _Name("@" + scoped_configurable_name)

        def macro(self, macro_name):
            return _Name("%" + macro_name)

    # Every binding, and those of the files that it includes.
    try:
        for statement in config_parser.ConfigParser(io.StringIO(text), Names()):
            if isinstance(statement, config_parser.IncludeStatement):
                path = pathlib.Path(source).parent / statement.filename
                yield from _statements(_contents(source, str(path)), str(path))
            elif isinstance(statement, config_parser.BindingStatement):
                place = f"{source}:{statement.location.line_num}"
                key = ".".join(p for p in (statement.selector, statement.arg_name) if p)
                yield place, key, statement.value
            elif not isinstance(statement, config_parser.BlockDeclaration):
                raise UserError(f"{source}: a runtime file imports nothing")
    except RecursionError:
        raise UserError(f"{source}: it includes itself, or nests too deeply") from None
    except (SyntaxError, ValueError, tokenize.TokenError, MemoryError) as error:
        message = " ".join(str(error).split())
        raise UserError(
            f"{source}: {message or 'expected section.name = value'}"
        ) from None


def _sections() -> dict[str, dict[str, Any]]:
    """The type of every field of every section of the runtime."""
    from runner import runtime

    kinds = typing.get_type_hints(runtime.Runtime)
    return {name: typing.get_type_hints(kind) for name, kind in kinds.items()}


def _section_and_field(where: str, name: str) -> tuple[str, str]:
    section, _, field = name.partition(".")
    sections = _sections()
    if not field:
        raise UserError(f"{where}: expected section.name, such as loop.log_every")
    if section not in sections:
        raise UserError(
            f"{where}: the runtime has no section '{section}'"
            f"{nearest(section, sections)}"
        )
    if field not in sections[section]:
        raise UserError(
            f"{where}: {section} has no setting '{field}'"
            f"{nearest(field, sections[section])}"
        )
    return section, field


def _read_value(where: str, name: str, value: Any) -> Any:
    section, _, field = name.partition(".")
    hint = _sections()[section][field]
    if isinstance(value, _Name):
        raise UserError(f"{where}: {name}: expected a plain value, got {value}")
    try:
        if isinstance(value, _Text):
            return literals.read(str(value), hint)
        return literals.fit(value, hint)
    except literals.Mismatch as error:
        raise UserError(f"{where}: {name}: {error}") from None
