"""Names of routers, checked."""

import re
from typing import Literal

from losses.core.outputs import TEACHER

Layers = Literal["mean", "sum"]


def check_source(source: str) -> None:
    """Refuse a path that names no router.

    Raises:
      ValueError: it is no name, with or without `teacher/` before it.
    """
    if not re.fullmatch(rf"({TEACHER})?[A-Za-z]\w*", source):
        raise ValueError(
            "source must name a router, such as 'router' or 'teacher/router', "
            f"got {source!r}"
        )
