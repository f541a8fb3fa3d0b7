"""The numbers of small runs of every config, to be the same before and after a change.

    cd CHECKOUT && python tests/results/curves.py write /tmp/curves_before
    cd CHANGED_CHECKOUT && python tests/results/curves.py write /tmp/curves_after
    python tests/results/curves.py compare /tmp/curves_before /tmp/curves_after

`write` trains with the checkout in the current directory, through its command line
alone, one process at a time: 30 steps of each config made small, students of every kind
of teacher, a run that is stopped and goes on, meshes of eight virtual devices,
microbatches, and heads cut into token blocks and tiles. DIR/work has the work
directories; DIR/NAME.jsonl the rows of a run's metrics.jsonl, less those of the clock,
or the numbers of a recording's manifest. (Its shards name the teacher's files, whose
bytes differ from run to run; what they say is seen in the students of them.) Both DIRs
are to be made on one machine: another may add in another order.

`compare` wants every number to be the same to its last digit, and else exits with 1.
"""

import argparse
import dataclasses
import json
import os
import platform
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

MAIN = ("-m", "runner.main")
CLOCK = ("speed/",)  # what the clock or the machine decides, by its name's beginning
STEPS, VOCABULARY, LENGTH, ROWS = 30, 300, 16, 8
STOP_AFTER, ATTEMPTS = 8, 5
SHOWN = 5

RUNTIME = (
    "--gin.loop.log_every=1",
    "--gin.loop.evaluate_every=10",
    "--gin.loop.evaluate_batches=2",
    "--gin.loop.checkpoint_every=10",
    "--gin.loop.quiet=True",
)
LENGTHS = (
    f"--fdl.num_steps={STEPS}",
    "--fdl.optimizer.learning_rate.warmup_steps=5",
    f"--fdl.optimizer.learning_rate.decay_steps={STEPS}",
)
TEXT = (
    "--fdl.student.dim=32",
    "--fdl.student.num_layers=2",
    "--fdl.student.num_heads=2",
    f"--fdl.student.vocab_size={VOCABULARY}",
    f"--fdl.batch_size={ROWS}",
    "--fdl.evaluations.held_out.batch_size=32",
    *LENGTHS,
)
WHOLE_TEXT = (
    *TEXT,
    f"--fdl.train_data.tokenizer.vocab_size={VOCABULARY}",
    f"--fdl.train_data.sequence_length={LENGTH}",
)
PART_OF_TEXT = (
    *TEXT,
    f"--fdl.train_data.data.tokenizer.vocab_size={VOCABULARY}",
    f"--fdl.train_data.data.sequence_length={LENGTH}",
    f"--fdl.train_data.num_rows={STEPS * ROWS}",
)
RECORD = (
    f"--fdl.data.data.tokenizer.vocab_size={VOCABULARY}",
    f"--fdl.data.data.sequence_length={LENGTH}",
    f"--fdl.data.num_rows={STEPS * ROWS}",
    "--fdl.mode.k=16",
    f"--fdl.batch_size={ROWS}",
)
EXPERTS = "--fdl.student.mlp.hidden_dim=32"
FEATURES = (
    "loss.loss.layers=((0,0),(1,1))",
    "loss.student_dim=32",
    "loss.teacher_dim=32",
)
IMAGES = ("--fdl.batch_size=16", "--fdl.evaluations.held_out.batch_size=16", *LENGTHS)
BY_DENSE = "--fdl.teacher.checkpoint={work}/dense"
BY_RECORDS = "--fdl.teacher.records={work}/record_teacher"
BALANCED = (
    *PART_OF_TEXT,
    EXPERTS,
    BY_DENSE,
    *(f"--fdl.losses.teacher.terms.features.{field}" for field in FEATURES),
    "--fdl.losses.teacher.terms.value_relations.loss.layers=((1,1),)",
)
EIGHT = ("--gin.mesh.num_cpu_devices=8", "--gin.mesh.data=2", "--gin.mesh.fsdp=2")
BLOCKS = ("--gin.head.memory_budget=100_000", "--gin.head.smallest_block=1")
TILES = ("--gin.head.memory_budget=50_000", "--gin.head.smallest_tile=32")

# Configs whose data or tokenizer are not here get those of configs/dense.py. Nothing is
# named but fields, so that names of classes may change.
STAND_INS = '''
"""Graphs of configs with data that are at hand."""

import importlib.util


def graph(name, function="config"):
    spec = importlib.util.spec_from_file_location(name, f"configs/{{name}}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, function).as_buildable()


def distill_smollm2():
    cfg, tokenizer = graph("distill_smollm2"), graph("dense").train_data.tokenizer
    cfg.train_data.data.tokenizer = tokenizer
    cfg.evaluations[0].data.data.tokenizer = tokenizer
    return cfg


def record_smollm2():
    cfg = graph("distill_smollm2", "record")
    cfg.data.data.tokenizer = graph("dense").train_data.tokenizer
    return cfg


def distill_70b():
    cfg, dense = graph("distill_70b"), graph("dense")
    cfg.train_data, cfg.evaluations = dense.train_data, dense.evaluations
    cfg.teacher.model = None
    return cfg
'''


@dataclasses.dataclass(frozen=True)
class Run:
    """A command, less its work directory.

    config: what --fdl_config names; `{work}` is where work directories are.
    needs:  names of runs that teach it.
    stops:  whether it is stopped on its way, and goes on.
    """

    config: str
    flags: Sequence[str]
    needs: Sequence[str] = ()
    stops: bool = False


def configs() -> dict[str, Run]:
    """Every config, by its name."""
    dense = ("dense",)
    return {
        "dense": Run("configs/dense.py", WHOLE_TEXT),
        "moe": Run("configs/moe.py", (*WHOLE_TEXT, EXPERTS)),
        "moe_zloss": Run("configs/moe_zloss.py", (*WHOLE_TEXT, EXPERTS)),
        "record_teacher": Run("configs/record_teacher.py", (*RECORD, BY_DENSE), dense),
        "distill": Run(
            "configs/distill.py",
            (*PART_OF_TEXT, EXPERTS, BY_RECORDS),
            ("record_teacher",),
        ),
        "distill_features": Run(
            "configs/distill_features.py",
            (
                *PART_OF_TEXT,
                EXPERTS,
                BY_DENSE,
                *(f"--fdl.losses.features.{field}" for field in FEATURES),
                "--fdl.losses.value_relations.loss.layers=((1,1),)",
            ),
            dense,
        ),
        "distill_balanced": Run("configs/distill_balanced.py", BALANCED, dense),
        "distill_moe": Run(
            "configs/distill_moe.py",
            (*PART_OF_TEXT, EXPERTS, "--fdl.teacher.checkpoint={work}/moe"),
            ("moe",),
        ),
        "record_smollm2": Run(
            "{work}/stand_ins.py:record_smollm2", (*RECORD, BY_DENSE), dense
        ),
        "distill_smollm2": Run(
            "{work}/stand_ins.py:distill_smollm2",
            (
                *PART_OF_TEXT,
                f"--fdl.evaluations.held_out.data.num_rows={8 * ROWS}",
                "--fdl.teacher.records={work}/record_smollm2",
            ),
            ("record_smollm2",),
        ),
        "distill_70b": Run(
            "{work}/stand_ins.py:distill_70b",
            (
                *WHOLE_TEXT,
                "--fdl.student.num_kv_heads=1",
                "--fdl.student.mlp.hidden_dim=64",
                BY_DENSE,
            ),
            dense,
        ),
        "vision_digits": Run("configs/vision_digits.py", IMAGES),
        "vision_fashion": Run(
            "configs/vision_digits.py",
            (
                "--fiddler=fashion('{work}/idx')",
                *IMAGES,
                "--fdl.student.num_layers=2",
                "--fdl.student.dim=32",
            ),
        ),
    }


def variants() -> dict[str, Run]:
    """Functions of configs, and runs that are carried out in other ways."""
    made = configs()

    def fiddled(name: str, call: str, *more: str, needs: Sequence[str] = ()) -> Run:
        run = made[name]
        flags = (
            f"--fiddler={call}",
            *(f for f in run.flags if "--fdl.teacher" not in f),
        )
        return Run(run.config, (*flags, *more), needs)

    def so(name: str, *more: str, stops: bool = False) -> Run:
        run = made[name]
        return dataclasses.replace(run, flags=(*run.flags, *more), stops=stops)

    dense, online = ("dense",), "online(checkpoint='{work}/dense')"
    own_head = ("--fdl.losses.kd.loss.dim=32", "--fdl.losses.kd.loss.num_outputs=300")
    made["distill-online"] = fiddled("distill", online, needs=dense)
    return made | {
        "distill-labels_only": fiddled("distill", "labels_only"),
        "distill-two_heads": fiddled(
            "distill", "two_heads", *own_head, BY_RECORDS, needs=("record_teacher",)
        ),
        "distill_balanced-gradients": fiddled(
            "distill_balanced", "gradients", BY_DENSE, needs=dense
        ),
        "distill_balanced-learned": fiddled(
            "distill_balanced", "learned", BY_DENSE, needs=dense
        ),
        "distill_moe-bias_balanced": fiddled(
            "distill_moe",
            "bias_balanced(rate=1e-2)",
            "--fdl.teacher.checkpoint={work}/moe",
            needs=("moe",),
        ),
        "vision_digits-online": fiddled(
            "vision_digits",
            "online(checkpoint='{work}/vision_digits')",
            needs=("vision_digits",),
        ),
        "goes_on": so("distill_balanced", stops=True),
        "diagnosed": so("distill_balanced", "--gin.diagnostics.every=10"),
        "mesh_2x2x2": so("distill_balanced", *EIGHT, "--gin.mesh.tensor=2"),
        "mesh_of_experts": so("distill", *EIGHT, "--gin.mesh.expert=2"),
        "microbatches_2": so("moe_zloss", "--gin.step.microbatches=2"),
        "microbatches_4": so("distill_balanced", "--gin.step.microbatches=4"),
        "remat": so("distill_features", "--gin.step.remat=full"),
        "blocks": so("distill_balanced", *BLOCKS),
        "blocks_of_records": so("distill", *BLOCKS),
        "tiles": so("moe_zloss", *TILES),
        "tiles_online": so("distill-online", *TILES),
        "tiles_2x2x2": so(
            "distill-online",
            "--gin.head.memory_budget=10_000",
            "--gin.head.smallest_tile=32",
            *EIGHT,
            "--gin.mesh.tensor=2",
        ),
    }


class Writer:
    """Runs, each once, into the files of `directory`."""

    def __init__(self, directory: Path):
        self.directory = directory.absolute()
        self.work = self.directory / "work"
        self.runs, self.seconds = variants(), dict[str, float]()
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        (self.work / "stand_ins.py").write_text(STAND_INS.format())
        write_idx(self.work / "idx")

    def write(self, name: str) -> None:
        """A run, after those that it needs."""
        if name in self.seconds:
            return
        run = self.runs[name]
        for needed in run.needs:
            self.write(needed)
        begin = time.monotonic()
        self._stopped(name, run) if run.stops else self._run(name, run)
        self.seconds[name] = round(time.monotonic() - begin, 1)
        kept = list(rows(self.work / name))
        lines = "".join(json.dumps(row) + "\n" for row in kept)
        (self.directory / f"{name}.jsonl").write_text(lines)
        print(f"{name:<28}{len(kept):>4} rows{self.seconds[name]:>7.1f} s", flush=True)

    def _start(self, name: str, run: Run) -> subprocess.Popen[str]:
        said = [f"--fdl_config={run.config}", *run.flags]
        command = [text.replace("{work}", str(self.work)) for text in said]
        command += [f"--workdir={self.work / name}", *RUNTIME]
        command += [f"--gin.input.cache={self.work / 'cache'}"]
        command += [f"--gin.compilation.cache={self.work / 'compiled'}"]
        return subprocess.Popen(
            [sys.executable, *MAIN, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.getcwd()},
        )

    def _run(self, name: str, run: Run) -> None:
        process = self._start(name, run)
        output, _ = process.communicate()
        if process.returncode:
            sys.exit(f"{name}: exit code {process.returncode}\n{output}")

    def _stopped(self, name: str, run: Run) -> None:
        """A SIGTERM on its way; then the same command again."""
        metrics = self.work / name / "metrics.jsonl"
        for _ in range(ATTEMPTS):
            shutil.rmtree(self.work / name, ignore_errors=True)
            process = self._start(name, run)
            while process.poll() is None and last_step(metrics) < STOP_AFTER:
                time.sleep(0.001)
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate()
            if process.returncode:
                sys.exit(f"{name}: exit code {process.returncode}\n{output}")
            if (stopped := last_step(metrics)) < STEPS:
                print(f"{name}: stopped after step {stopped}", flush=True)
                return self._run(name, run)
        sys.exit(f"{name}: it ended before it could be stopped, {ATTEMPTS} times")


def rows(workdir: Path) -> Iterator[dict[str, Any]]:
    """The rows of a run's metrics, less the clock's; or the numbers of a recording."""
    metrics = workdir / "metrics.jsonl"
    if not metrics.exists():
        yield dict(numbers(json.loads((workdir / "records/manifest.json").read_text())))
        return
    for line in metrics.read_text().splitlines():
        row = json.loads(line)
        yield {key: row[key] for key in row if not key.startswith(CLOCK)}


def numbers(tree: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Those of a JSON value, by path."""
    if isinstance(tree, int | float):
        yield path, tree
    elif isinstance(tree, dict | list):
        for key, inner in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from numbers(inner, f"{path}/{key}")


def last_step(metrics: Path) -> int:
    """Of a file that may be written just now."""
    if not metrics.exists():
        return -1
    lines = metrics.read_text().splitlines(keepends=True)
    steps = [json.loads(line)["step"] for line in lines if line.endswith("\n")]
    return max(steps, default=-1)


def write_idx(folder: Path, *, count: int = 128, side: int = 28) -> None:
    """Images of noise in ten classes, each brighter than the last."""
    folder.mkdir()
    draw = random.Random(0)
    for prefix in ("train", "t10k"):
        labels = bytes(i % 10 for i in range(count))
        pixels = bytes(
            min(255, 20 * label + draw.randrange(60))
            for label in labels
            for _ in range(side * side)
        )
        header = struct.pack(">4B3I", 0, 0, 8, 3, count, side, side)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + pixels)
        header = struct.pack(">4BI", 0, 0, 8, 1, count)
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(header + labels)


def write(directory: Path, names: Sequence[str]) -> None:
    """All runs, or those that are named and what they need."""
    begin = time.monotonic()
    writer = Writer(directory)
    if unknown := sorted(set(names) - set(writer.runs)):
        sys.exit(f"unknown: {', '.join(unknown)}; known: {', '.join(writer.runs)}")
    for name in names or writer.runs:
        writer.write(name)
    about = {
        "checkout": os.getcwd(),
        "commit": said("git", "rev-parse", "HEAD"),
        "changed": said("git", "status", "--short").splitlines(),
        "machine": platform.platform(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "seconds": {"all": round(time.monotonic() - begin, 1), **writer.seconds},
    }
    (writer.directory / "about.json").write_text(json.dumps(about, indent=1) + "\n")
    print(f"{len(writer.seconds)} runs in {about['seconds']['all']} s: {directory}")


def said(*command: str) -> str:
    """What a command prints; nothing where it fails."""
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def compare(old: Path, new: Path) -> int:
    """Prints a line a run; returns 1 where any number differs, else 0."""
    names = [{path.stem for path in side.glob("*.jsonl")} for side in (old, new)]
    differ, values = 0, 0
    if not names[0]:
        sys.exit(f"{old}: no NAME.jsonl")
    for name in sorted(names[0] | names[1]):
        if missing := [
            str(s) for s, n in zip((old, new), names, strict=True) if name not in n
        ]:
            print(f"{name:<28}MISSING in {missing[0]}")
            differ += 1
            continue
        before, after = (flat(side / f"{name}.jsonl") for side in (old, new))
        found = differences(before, after)
        values += len(before)
        differ += bool(found)
        verdict = f"DIFFERS in {len(found)} of" if found else "same"
        print(f"{name:<28}{verdict} {len(before)} values")
        for line in found[:SHOWN]:
            print(f"    {line}")
    total = len(names[0] | names[1])
    print(f"{total - differ} of {total} runs are the same, {values} values compared")
    return int(differ > 0)


def flat(path: Path) -> dict[str, Any]:
    """Every value of a file, by its line, step and name."""
    found = {}
    for number, line in enumerate(path.read_text().splitlines()):
        row = json.loads(line)
        for key, value in row.items():
            found[f"line {number}, step {row.get('step', '-')}, {key}"] = value
    return found


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """A line for each value that is not the other's to the last digit."""
    found = []
    for key in [*old, *(key for key in new if key not in old)]:
        if key not in new or key not in old:
            found.append(f"{key}: only in the {'old' if key in old else 'new'}")
        elif repr(old[key]) != repr(new[key]):
            found.append(
                f"{key}: {old[key]!r} -> {new[key]!r}{relative(old[key], new[key])}"
            )
    return found


def relative(old: Any, new: Any) -> str:
    """` (relative 1.2e-07)`, of numbers."""
    if not all(isinstance(x, int | float) for x in (old, new)):
        return ""
    return f" (relative {abs(new - old) / max(abs(old), abs(new)):.1e})"


def main() -> None:
    """`write DIR [NAME ...]` or `compare OLD NEW`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("write", help="train, and keep the numbers")
    writing.add_argument("directory", type=Path)
    writing.add_argument("names", nargs="*", help="these alone, and what they need")
    comparing = commands.add_parser("compare", help="look for numbers that differ")
    comparing.add_argument("old", type=Path)
    comparing.add_argument("new", type=Path)
    given = parser.parse_args()
    if given.command == "write":
        write(given.directory, given.names)
    else:
        sys.exit(compare(given.old, given.new))


if __name__ == "__main__":
    main()
