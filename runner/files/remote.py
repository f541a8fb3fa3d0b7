"""Addresses of object stores, which are no paths: refused in one line.

A work directory relies on locks, on renames that replace a file and on appends; a
bucket offers none of them, and `Path("gs://b")` is quietly the local folder `gs:/b`.
"""

import re
from collections.abc import Callable

from runner.errors import UserError

_SCHEMES = "gs|gcs|s3|s3a|r2|oss|az|abfss?|wasbs?|adl|hdfs|webhdfs|dbfs|memory|sftp"
_ADDRESS = re.compile(rf"(?:{_SCHEMES}):/+\S*", re.IGNORECASE)


def refuse(name: str, value: object) -> None:
    """Refuse a text that is the address of an object store.

    Args:
      name: Of the flag or field, for the message.
      value: What it holds; only a text can be such an address.

    Raises:
      UserError: It is one.
    """
    if isinstance(value, str) and _ADDRESS.fullmatch(value):
        raise UserError(
            f"{name}={value}: runs, records and models lie on a file system; "
            "copy it here, or mount the bucket and name its folder"
        )


def local(name: str) -> Callable[[str], str]:
    """Return a type for `argparse`: a path that is not such an address.

    Args:
      name: Of the option, for the message.
    """

    def path(value: str) -> str:
        refuse(name, value)
        return value

    return path
