"""The table of a GPU: docs/speed.md, "On a GPU".

    make bench-gpu
    PYTHONPATH=. .venv/bin/python tests/gpu/bench.py --torch=.venv-torch/bin/python

Each row is a process of its own with a limit of time; what fails, or finds no torch, is
a row that says so, and the next one goes on. The rows that matter most come first, and
each is printed as it comes. Seconds are those of the wall, medians of 7 rounds in turn
(min - max). `--tiny` runs all of it on a CPU, which shows that it runs and no more.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.gpu.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
TORCH = ROOT / ".venv-torch/bin/python"
LIMIT = 240  # seconds of a row


@dataclasses.dataclass(frozen=True)
class Row:
    """One process, which prints lines of the table.

    Attributes:
      name: for `--only`.
      command: module and arguments.
    """

    name: str
    command: str


ROWS = (
    Row("step", "steps labels 135M 2048 eager"),
    Row("head", "head"),
    Row("attention", "attention"),
    Row("recording", "recording 135M 2048"),
    Row("step-long", "steps labels 135M 8192 eager"),
    Row("step-1B", "steps labels 1B 2048 eager"),
    Row("step-1B-long", "steps labels 1B 8192 eager"),
    Row("step-compiled", "steps labels 135M 2048 compiled"),
    Row("offline", "steps offline 135M 2048 eager"),
    Row("online", "steps online 135M 2048 eager"),
    Row("step-flash", "steps labels 135M 8192 flash"),
    Row("step-weights", "steps labels 135M 2048 weights"),
    Row("window", "layers window"),
    Row("experts", "layers experts"),
    Row("evaluation", "layers evaluation"),
    Row("generation", "generation"),
)


def main(argv: Sequence[str]) -> int:
    """Print the table, and write it where told to."""
    options = parsed(argv)
    settings = Settings(
        tiny=options.tiny,
        torch=options.torch if Path(options.torch).exists() else "",
        divide=options.divide,
    )
    until = time.monotonic() + options.seconds
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    try:
        *_, found = output("machine", settings, LIMIT)
        settings = dataclasses.replace(settings, **json.loads(found))
    except (RuntimeError, ValueError) as error:
        print(f"the device cannot be measured: {error}", file=sys.stderr)
        return 1
    for line in heading(settings):
        tell(line)
    for row in ROWS:
        if options.only and row.name not in options.only:
            continue
        left = until - time.monotonic()
        try:
            if left < 10:
                raise RuntimeError(f"{options.seconds} seconds are over")
            for line in output(row.command, settings, min(left, LIMIT)):
                if line.startswith("|"):
                    tell(line.rstrip())
        except RuntimeError as error:
            tell(f"| {row.name} | not run: {error} | | | |")
    if options.write:
        Path(options.write).write_text("\n".join(lines) + "\n")
    return 0


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="small, on a CPU")
    parser.add_argument("--torch", default=str(TORCH), help="a Python that has torch")
    parser.add_argument("--only", nargs="*", help=", ".join(row.name for row in ROWS))
    parser.add_argument("--divide", type=int, default=1, help="rows of a step, by this")
    parser.add_argument("--seconds", type=int, default=540, help="of all rows")
    parser.add_argument("--write", default="", help="a file for the table")
    return parser.parse_args(argv)


def heading(settings: Settings) -> Iterator[str]:
    """Yield the device, its peaks and the head of the table."""
    peak = f"{settings.peak / 1e12:,.0f}" if settings.peak else "unknown"
    yield (
        f"{settings.kind}: bfloat16 peak {peak} TFLOP/s by its data sheet, "
        f"{settings.measured / 1e12:,.1f} measured, by products of large squares"
    )
    yield ""
    yield "| work | ours | beside | ratio | target |"
    yield "|---|---|---|---|---|"


def output(command: str, settings: Settings, limit: float) -> Iterator[str]:
    """Yield what a module of this folder prints, line by line.

    Raises:
      RuntimeError: it failed, with its last line, or took too long.
    """
    module, *arguments = command.split()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", f"tests.gpu.{module}", *arguments],
            cwd=ROOT,
            env=settings.environment() | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        over = threading.Event()

        def stop() -> None:
            over.set()
            # The programs that it started are of its group, and hold the device.
            os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(limit, stop)
        timer.start()
        try:
            yield from process.stdout
            code = process.wait()
        finally:
            timer.cancel()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if code == -signal.SIGKILL:
            if over.is_set():
                raise RuntimeError(f"killed at its limit of {limit:.0f} seconds")
            raise RuntimeError("killed before its limit, as for want of memory")
        if code:
            errors.seek(0)
            last = [line.strip() for line in errors if line.strip()] or ["no message"]
            raise RuntimeError(last[-1][:300])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
