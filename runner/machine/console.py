"""A command: its options, and its exit code, also where nobody reads on."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from runner.errors import UserError


class Parser(argparse.ArgumentParser):
    """A parser that refuses in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (--help lists the options)")


def exit_code(main: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Run a command to the last byte of its output, and return its exit code.

    It is 0 where the reader has seen enough: `runner ... | head`.
    """
    try:
        code = main(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code
