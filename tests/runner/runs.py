"""Whole runs of a student of seconds, each in a process of its own."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np

from runner.checkpoint import manifest
from runner.checkpoint.checkpoints import Checkpoints

ROOT = Path(__file__).parents[2]
STEPS = 60
_TAIL = 1 << 16  # bytes: more than a line takes
RUNTIME = (
    "--gin.loop.log_every=1",
    "--gin.loop.checkpoint_every=4",
    "--gin.loop.evaluate_every=20",
    "--gin.loop.evaluate_batches=1",
    "--gin.loop.keep_checkpoints=2",
)


class Runner:
    """Commands on one config, text and cache, in this test session's directory."""

    patience = 300.0  # seconds for a run to its end

    def __init__(self, directory, *, steps=STEPS):
        self.directory, self.steps = directory, steps
        write_text(directory / "text.txt")
        self.flags = [
            f"--fdl_config={ROOT / 'tests' / 'runner' / 'resume_config.py'}",
            f"--fdl.num_steps={steps}",
            f"--fiddler=reads({str(directory / 'text.txt')!r})",
            *RUNTIME,
            f"--gin.input.cache={directory / 'cache'}",
            f"--gin.compilation.cache={directory / 'compiled'}",
        ]

    def start(self, workdir, *flags, program=("-m", "runner.main")):
        return subprocess.Popen(
            [
                sys.executable,
                *program,
                *self.flags,
                f"--workdir={self.directory / workdir}",
                *flags,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
        )

    def run(self, workdir, *flags, code=0, **kwargs):
        """What a run to its end prints."""
        process = self.start(workdir, *flags, **kwargs)
        output, _ = process.communicate(timeout=self.patience)
        assert process.returncode == code, output
        assert "Traceback" not in output
        return output

    def killed(self, workdir, *flags, step, seconds=0.0):
        """Kill -9 once the metrics of `step` are written, and `seconds` later.

        Returns: the step that the run will go on after.
        """
        process = self.start(workdir, *flags)
        while process.poll() is None and self.last_step(workdir) < step:
            time.sleep(0.002)
        time.sleep(seconds)
        process.kill()
        process.communicate()
        with Checkpoints(self.checkpoints(workdir), keep=1) as checkpoints:
            return checkpoints.latest_verified() or 0

    def metrics(self, workdir):
        """The lines of `metrics.jsonl`, less what the clock decides."""
        path = self.directory / workdir / "metrics.jsonl"
        if not path.exists():
            return []
        records = [json.loads(line) for line in _whole_lines(path.read_bytes())]
        return [
            {k: v for k, v in record.items() if not k.startswith("speed/")}
            for record in records
        ]

    def last_step(self, workdir):
        """The step of the last whole line; the file may be long."""
        path = self.directory / workdir / "metrics.jsonl"
        if not path.exists():
            return -1
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            lines = _whole_lines(file.read())
        return json.loads(lines[-1])["step"] if lines else -1

    def checkpoints(self, workdir):
        return self.directory / workdir / "checkpoints"

    def state(self, workdir, step=None):
        """Bytes of every leaf of a checkpoint, by path; of the last one."""
        step = self.steps if step is None else step
        with Checkpoints(self.checkpoints(workdir), keep=1) as checkpoints:
            directory = self.checkpoints(workdir) / f"{step:08d}"
            leaves = manifest.check(directory, step=step).leaves
            one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
            tree = checkpoints.restore(
                step,
                {
                    path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=one)
                    for path, leaf in leaves.items()
                },
            )
        return {path: np.asarray(leaf) for path, leaf in tree.items()}

    def assert_same_run(self, left, right):
        self.assert_same_state(left, right, self.steps)
        assert self.metrics(left) == self.metrics(right)

    def assert_same_state(self, left, right, step):
        one, other = self.state(left, step), self.state(right, step)
        assert one.keys() == other.keys()
        for path in one:
            assert one[path].tobytes() == other[path].tobytes(), path


def _whole_lines(content):
    return [line for line in content.splitlines(keepends=True) if line.endswith(b"\n")]


def write_text(path, seed=0):
    choose = random.Random(seed)
    words = ["".join(choose.choices("aeioulmnrst", k=4)) for _ in range(60)]
    path.write_text(
        "\n".join(" ".join(choose.choices(words, k=12)) for _ in range(300))
    )
