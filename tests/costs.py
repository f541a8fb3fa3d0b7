"""Processor seconds of each test, its children's included: `pytest --dearest=10`.

Wall time tells of the machine's other work; processor time tells of the test. What
several tests share (a module's fixture, a cached program) is paid for by the first.
Workers of pytest-xdist send their numbers along with each report.
"""

import inspect
import os
import resource
from collections import defaultdict

import pytest

# Above this a test is `slow`, or says `# dear: why` in its body or just above it.
DEAR_SECONDS = 5.0
PHASES = 3  # set-up, call, tear-down
KILOBYTES_OF_A_GIGABYTE = 1024**2


def processor_seconds() -> float:
    """Of this process and of the children it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class Costs:
    """Measures in each process that runs tests; sums up where reports arrive."""

    def __init__(self, config: pytest.Config):
        self._config = config
        self._since = 0.0
        self._seconds: dict[str, float] = defaultdict(float)
        self._unexplained: set[str] = set()
        self._peaks: dict[str, tuple[float, float]] = {}
        self._processes: dict[str, float] = {}

    # In the process that runs the tests

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self):
        """Start the clock of a test: collection is no test's."""
        self._since = processor_seconds()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item):
        """Add to a report the seconds of its phase, and the largest memory so far."""
        report = yield
        now = processor_seconds()
        report.processor_seconds, self._since = now - self._since, now
        # Reading the source takes longer than many a test does.
        dear = report.processor_seconds > DEAR_SECONDS / PHASES
        report.explained = not dear or _explained(item)
        report.peak_memory = tuple(
            resource.getrusage(who).ru_maxrss / KILOBYTES_OF_A_GIGABYTE
            for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        return report

    def pytest_sessionfinish(self):
        """Send what the whole process took, imports and collection included."""
        output = getattr(self._config, "workeroutput", None)
        if output is None:
            self._processes["this process"] = processor_seconds()
        else:
            output["processor_seconds"] = processor_seconds()

    # Where the reports arrive

    def pytest_runtest_logreport(self, report):
        """Add up the phases of a test; that of a worker that crashed has no numbers."""
        if not hasattr(report, "processor_seconds"):
            return
        self._seconds[report.nodeid] += report.processor_seconds
        self._peaks[getattr(report, "worker_id", "this process")] = report.peak_memory
        if not report.explained:
            self._unexplained.add(report.nodeid)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node):
        """Take what a worker's whole process took."""
        seconds = getattr(node, "workeroutput", {}).get("processor_seconds", 0.0)
        self._processes[node.gateway.id] = seconds

    def pytest_terminal_summary(self, terminalreporter):
        """Print the dearest tests, the total, and the memory."""
        count = self._config.getoption("dearest")
        if not count or not self._seconds:
            return
        write = terminalreporter.write_line
        terminalreporter.section(f"{count} dearest tests, processor seconds")
        by_cost = sorted(self._seconds.items(), key=lambda pair: -pair[1])
        for name, seconds in by_cost[:count]:
            write(f"{seconds:7.1f}  {name}")
        in_tests = sum(self._seconds.values())
        # Workers are children of this process, where there are any.
        overall = max(self._processes.values(), default=0.0)
        write(f"{in_tests:7.1f}  in {len(by_cost)} tests; {overall:.1f} in all")
        own = [own for own, _ in self._peaks.values()]
        child = max(child for _, child in self._peaks.values())
        write(
            f"{sum(own):7.1f}  GB at most: {' + '.join(f'{x:.1f}' for x in own)};"
            f" the largest child {child:.1f}"
        )
        for name, seconds in by_cost:
            if seconds > DEAR_SECONDS and name in self._unexplained:
                write(f"neither `slow` nor `# dear: why` ({seconds:.1f} s): {name}")


def _explained(item: pytest.Item) -> bool:
    """Is it `slow`, or does its source say why it is dear?"""
    if item.get_closest_marker("slow"):
        return True
    function = getattr(item, "function", None)
    if function is None:
        return False
    try:
        text = (inspect.getcomments(function) or "") + inspect.getsource(function)
    except OSError:  # the file has changed under the run
        return False
    return "# dear: " in text
