"""Shows that the tests catch every fault: `python -m tests.faults.check [NAME ...]`.

The checkout is copied, once for each of two processes. The named tests must pass there
as it is. Then each fault in turn is applied to a copy, and one of its tests must fail.
"""

import concurrent.futures
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.faults.fault import Fault, read_all

ROOT = Path(__file__).resolve().parents[2]
AT_ONCE = 2
PYTEST = ["-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", "-m"]
PASSED, FAILED = 0, 1  # pytest's exit codes; others are no result


class Copy:
    """A copy of the checkout in which files are changed and tests run."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._clock = time.time()
        listing = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in listing.stdout.splitlines():
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)

    def test(self, names: Sequence[str]) -> tuple[int, str]:
        """Run these tests until one fails; return pytest's exit code and output."""
        run = subprocess.run(
            [sys.executable, *PYTEST, "not slow", *names],
            cwd=self._folder,
            env=os.environ | {"PYTHONPATH": str(self._folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        return run.returncode, run.stdout + run.stderr

    def test_with(self, fault: Fault) -> tuple[int, str]:
        """Run the tests of a fault with the fault, and take it out again.

        Raises:
          ValueError: the fault does not apply.
        """
        path = self._folder / fault.file
        text = path.read_text()
        self._write(path, fault.apply(text))
        try:
            return self.test(fault.tests)
        finally:
            self._write(path, text)

    def _write(self, path: Path, text: str) -> None:
        # Python takes compiled code for that of a source of the same second and size.
        path.write_text(text)
        self._clock += 2
        os.utime(path, (self._clock, self._clock))


def check(faults: Sequence[Fault], folder: Path) -> int:
    """Print a line a fault; return how many no test caught."""
    copies: queue.Queue[Copy] = queue.Queue()
    for index in range(AT_ONCE):
        copies.put(Copy(folder / str(index)))

    def with_a_copy(function, argument):
        copy = copies.get()
        try:
            return function(copy, argument)
        finally:
            copies.put(copy)

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        # First without faults: a test that fails anyway would catch everything.
        names = sorted({name for fault in faults for name in fault.tests})
        halves = [names[index::AT_ONCE] for index in range(AT_ONCE)]
        started = time.monotonic()
        for code, output in pool.map(
            lambda half: with_a_copy(Copy.test, half), filter(None, halves)
        ):
            if code != PASSED:
                print(output)
                raise SystemExit("the tests do not pass without a fault")
        seconds = time.monotonic() - started
        print(f"{len(names)} tests pass without a fault ({seconds:.0f} s)", flush=True)

        missed = 0
        runs = pool.map(lambda fault: with_a_copy(Copy.test_with, fault), faults)
        for fault, (code, output) in zip(faults, runs, strict=True):
            if code not in (PASSED, FAILED):
                print(output)
                raise SystemExit(f"{fault.name}: pytest ended with {code}, no result")
            missed += code == PASSED
            verdict = "caught" if code == FAILED else "MISSED"
            print(f"{verdict}  {fault.name}: {fault.breaks}", flush=True)
    return missed


def main(names: Sequence[str]) -> int:
    """Check the faults of these names, or all; return 1 where one is missed."""
    faults = [fault for fault in read_all() if not names or fault.name in names]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        missed = check(faults, Path(folder))
    seconds = time.monotonic() - started
    print(f"{len(faults) - missed} of {len(faults)} caught ({seconds:.0f} s)")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
