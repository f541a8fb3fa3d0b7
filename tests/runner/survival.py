"""Kills, signals and a long run, in numbers: `python -m tests.runner.survival`.

    python -m tests.runner.survival --kills=100 --signals=50 --pairs=10 --long=20000

Each kill, and each signal, strikes one run with a state of every kind at a random
moment; the run then goes on to its end, and must be the one that nothing interrupted,
bit for bit. `--long` runs that many steps and watches memory, handles, threads, files.
"""

import argparse
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

from runner.checkpoint.checkpoints import Checkpoints
from tests.runner.machine.pairs import Pair
from tests.runner.runs import Runner

STEPS = 24


def main(arguments):
    """Print a line for each kind of interruption; return the exit code."""
    parser = argparse.ArgumentParser(prog="tests.runner.survival")
    for name in ("kills", "signals", "pairs", "long"):
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    counts = parser.parse_args(arguments)
    choose = random.Random(counts.seed)
    with tempfile.TemporaryDirectory() as folder:
        if counts.kills or counts.signals:
            runner = Runner(_below(folder, "one"), steps=STEPS)
            runner.run("whole")
            kills(runner, counts.kills, choose)
            signals(runner, counts.signals, choose)
        if counts.pairs:
            pairs(Pair(_below(folder, "two"), steps=STEPS), counts.pairs, choose)
        if counts.long:
            long(Runner(_below(folder, "long"), steps=counts.long))
    return 0


def kills(runner, number, choose):
    """Kill -9 at any moment, from the imports to the last report."""
    for i in range(number):
        workdir, step = f"killed-{i}", choose.randrange(-1, STEPS)
        runner.killed(workdir, step=step, seconds=choose.uniform(0.0, 1.0))
        runner.run(workdir)
        runner.assert_same_run(workdir, "whole")
        _show(f"kill -9: {i + 1} of {number} equal bit for bit")
    _end(number)


def signals(runner, number, choose):
    """SIGTERM and SIGINT in turn: a checkpoint of the last step, then an end."""
    seconds = [0.0]
    for i in range(number):
        workdir, kind = f"asked-{i}", (signal.SIGTERM, signal.SIGINT)[i % 2]
        process, step = runner.start(workdir), choose.randrange(1, STEPS - 4)
        while process.poll() is None and runner.last_step(workdir) < step:
            time.sleep(0.002)
        process.send_signal(kind)
        begin = time.monotonic()
        output, _ = process.communicate(timeout=120)
        seconds.append(time.monotonic() - begin)
        assert process.returncode == (130 if kind == signal.SIGINT else 0), output
        with Checkpoints(runner.checkpoints(workdir), keep=1) as checkpoints:
            assert checkpoints.latest_verified() == runner.last_step(workdir)
        runner.run(workdir)
        runner.assert_same_run(workdir, "whole")
        _show(f"signals: {i + 1} of {number} saved, ended in {max(seconds):.1f} s")
    _end(number)


def pairs(pair, number, choose):
    """Two processes, of which one is killed; the other must end by itself."""
    pair.run_all("whole")
    for i in range(number):
        workdir = f"killed-{i}"
        processes = pair.start_all(workdir)
        pair.until(workdir, choose.randrange(1, STEPS - 4), processes)
        processes[i % 2].kill()
        processes[1 - i % 2].communicate(timeout=120)
        assert processes[1 - i % 2].returncode != 0
        processes[i % 2].communicate()
        pair.run_all(workdir)
        pair.assert_same_run(workdir, "whole")
        _show(f"one of two killed: {i + 1} of {number} equal bit for bit")
    _end(number)


def long(runner):
    """Steps without an end: what grows, and by how much."""
    every = runner.steps // 20
    process = runner.start(
        "long",
        f"--gin.loop.checkpoint_every={every}",
        f"--gin.loop.evaluate_every={every}",
    )
    samples = []
    while process.poll() is None:
        if runner.last_step("long") > runner.steps // 10:  # all is compiled by then
            samples.append(_resources(process.pid))
        time.sleep(0.5)
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
        print(f"long run: {name}: {size / runner.steps:.0f} bytes a logged step")


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
