"""Kills, signals and a long run, in numbers: `python -m tests.runner.survival`.

    python -m tests.runner.survival --kills=100 --signals=50 --pairs=10 --long=20000

Each kill, and each signal, strikes one run with a state of every kind, on a mixture of
two texts, at a random moment; the run then goes on to its end, and must be the one that
nothing interrupted, bit for bit. Runs are forks that have their imports; with
`--imports` these are struck too; `--strikes=5` kills one run five times before it may
end. `--long` runs that many steps and watches memory, handles, threads, files.
"""

import argparse
import collections
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

from runner.checkpoint.checkpoints import Checkpoints
from tests.runner.forked import ForkedRunner
from tests.runner.machine.pairs import Pair
from tests.runner.runs import Runner, write_text

STEPS = 24
SECONDS_TO_END = 5.0


def main(arguments):
    """Print a line for each kind of interruption; return the exit code."""
    parser = argparse.ArgumentParser(prog="tests.runner.survival")
    for name in ("kills", "signals", "pairs", "long"):
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--strikes", type=int, default=1, help="kills of each run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--imports", action="store_true", help="interrupt these too")
    counts = parser.parse_args(arguments)
    choose = random.Random(counts.seed)
    Runner.patience = 3600.0  # the machine may be busy: bits count here, not its clock
    with tempfile.TemporaryDirectory() as folder:
        if counts.kills or counts.signals:
            kind = Runner if counts.imports else ForkedRunner
            runner = _mixed(kind(_below(folder, "one"), steps=STEPS))
            runner.run("whole", "--gin.loop.keep_checkpoints=99")
            kills(runner, counts.kills, choose, counts.strikes)
            signals(runner, counts.signals, choose)
        if counts.pairs:
            kind = Pair if counts.imports else ForkedPair
            pair = _mixed(kind(_below(folder, "two"), steps=STEPS))
            pairs(pair, counts.pairs, choose)
        if counts.long:
            long(Runner(_below(folder, "long"), steps=counts.long))
    return 0


class ForkedPair(ForkedRunner, Pair):
    """Two forks."""


def kills(runner, number, choose, strikes):
    """Kill -9 at any moment, from the start to the last report."""
    places, runs = collections.Counter(), 0
    while places.total() < number:
        workdir, runs = f"killed-{runs}", runs + 1
        for step in sorted(choose.sample(range(-1, STEPS + 1), strikes)):
            places.update(_strike(runner, workdir, step, choose))
        runner.run(workdir)
        runner.assert_same_run(workdir, "whole")
        shutil.rmtree(runner.directory / workdir)
        where = ", ".join(f"{count} {place}" for place, count in places.items())
        _show(
            f"kill -9: {places.total()} ({where}); the checkpoints that they left and "
            f"{runs} of {runs} ends equal bit for bit"
        )
    _end(number)


def _strike(runner, workdir, step, choose):
    """Kill a run after a step and compare what it leaves; say where it was."""
    process = runner.start(workdir)
    _until(runner, workdir, process, step)
    # Steps take hundredths of a second; the start and the end take seconds.
    time.sleep(choose.uniform(0.0, 0.1 if 0 <= step < STEPS else 3.0))
    process.kill()
    process.communicate()
    if process.returncode != -signal.SIGKILL:
        return []  # it had ended
    with Checkpoints(runner.checkpoints(workdir), keep=1) as checkpoints:
        saved = checkpoints.latest_verified()
    if saved is not None:
        runner.assert_same_state(workdir, "whole", saved)
    last = runner.last_step(workdir)
    return ["starting" if last < 1 else "ending" if last == STEPS else "at work"]


def signals(runner, number, choose):
    """SIGTERM and SIGINT in turn: a checkpoint of the last step, then an end."""
    walls, processors = [0.0], [0.0]
    for i in range(number):
        workdir, kind = f"asked-{i}", (signal.SIGTERM, signal.SIGINT)[i % 2]
        process = runner.start(workdir)
        _until(runner, workdir, process, choose.randrange(1, STEPS - 4))
        begin, used = time.monotonic(), _processor_time(process)
        process.send_signal(kind)
        last = runner.last_step(workdir)
        # The clock of a busy machine also runs while the process waits for its turn.
        while process.poll() is None:
            processors.append(_processor_time(process) - used)
            time.sleep(0.01)
        walls.append(time.monotonic() - begin)
        output, _ = process.communicate()
        assert max(processors) < SECONDS_TO_END, output
        assert process.returncode == (130 if kind == signal.SIGINT else 0), output
        with Checkpoints(runner.checkpoints(workdir), keep=1) as checkpoints:
            saved = checkpoints.latest_verified()
        # One step is under way, and the metrics of the one before it are not written.
        assert saved == runner.last_step(workdir) <= last + 2, output
        runner.run(workdir)
        runner.assert_same_run(workdir, "whole")
        shutil.rmtree(runner.directory / workdir)
        _show(
            f"signals: {i + 1} of {number} saved; ended in {max(walls):.1f} s, "
            f"{max(processors):.1f} s of a processor"
        )
    _end(number)


def pairs(pair, number, choose):
    """Two processes, of which one is killed; the other must end by itself."""
    pair.run_all("whole")
    for i in range(number):
        workdir = f"killed-{i}"
        processes = pair.start_all(workdir)
        pair.until(workdir, choose.randrange(1, STEPS - 4), processes)
        processes[i % 2].kill()
        processes[1 - i % 2].communicate(pair.patience)
        assert processes[1 - i % 2].returncode != 0
        processes[i % 2].communicate()
        pair.run_all(workdir)
        pair.assert_same_run(workdir, "whole")
        shutil.rmtree(pair.directory / workdir)
        _show(f"one of two killed: {i + 1} of {number} equal bit for bit")
    _end(number)


def long(runner):
    """Steps without an end: what grows, and by how much."""
    every = runner.steps // 20
    process = runner.start(
        "long",
        "--gin.loop.log_every=10",
        f"--gin.loop.checkpoint_every={every}",
        f"--gin.loop.evaluate_every={every}",
    )
    samples = []
    while process.poll() is None:
        if runner.last_step("long") > runner.steps // 10:  # all is compiled by then
            samples.append(_resources(process.pid))
        time.sleep(1.0)
    output = process.communicate()[0]
    assert process.returncode == 0, output
    tenth = max(len(samples) // 10, 1)
    for name in ("MiB of memory", "open files", "threads"):
        early, late = (
            statistics.median(sample[name] for sample in part if sample)
            for part in (samples[:tenth], samples[-tenth - 2 : -2])
        )
        print(f"long run: {name}: {early:.0f} after a tenth, {late:.0f} at the end")
    directory = runner.directory / "long"
    for name in ("metrics.jsonl", "events"):
        files = [directory / name, *(directory / name).rglob("*")]
        size = sum(file.stat().st_size for file in files if file.is_file())
        lines = runner.steps // 10
        print(f"long run: {name}: {size / lines:.0f} bytes a logged step")


def _until(runner, workdir, process, step):
    while process.poll() is None and runner.last_step(workdir) < step:
        time.sleep(0.005)


def _processor_time(process):
    """Seconds that a process has had on processors; 0 once it has ended."""
    try:
        stat = Path(f"/proc/{process.pid}/stat").read_text()
    except OSError:
        return 0.0
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _resources(pid):
    """Return the numbers of a process; nothing once it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in status)
        return {
            "MiB of memory": int(fields["VmRSS"].split()[0]) / 1024,
            "threads": int(fields["Threads"]),
            "open files": len(os.listdir(f"/proc/{pid}/fd")),
        }
    except (OSError, KeyError):
        return {}


def _mixed(runner):
    """The same runs on rows of two texts, whose shares change half-way."""
    other = runner.directory / "other.txt"
    write_text(other, seed=1)
    turn = STEPS // 2 * 8  # rows; a batch has 8
    runner.flags.append(f"--fiddler=mixes({str(other)!r}, turn={turn})")
    return runner


def _below(folder, name):
    path = Path(folder) / name
    path.mkdir()
    return path


def _show(line):
    print(f"\r{line}", end="", flush=True)


def _end(number):
    if number:
        print()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
