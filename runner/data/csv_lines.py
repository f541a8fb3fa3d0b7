"""Lines of a CSV file."""

import csv
from pathlib import Path

from runner.errors import UserError


def read(path: Path) -> list[list[str]]:
    """Return the fields of each line, the header first.

    Raises:
      UserError: It is not UTF-8 text, or no CSV.
    """
    try:
        # A spreadsheet may put a byte order mark before the header.
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.reader(file))
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise UserError(
            f"{path}: not UTF-8 text (byte 0x{byte:02x}); write it as UTF-8 first "
            "(iconv -f LATIN1 -t UTF-8)"
        ) from None
    except csv.Error as error:
        raise UserError(f"{path}: no CSV: {error}") from None
