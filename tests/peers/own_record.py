"""A recording of ours: run by `recording.py`, answers as `torch_record.py` does."""

import contextlib
import functools
import os
import sys
from pathlib import Path

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # XLA starts a thread a core

import fiddle as fdl  # noqa: E402 - jax counts the cores when it is imported
import jax  # noqa: E402
import numpy as np  # noqa: E402

from configs import distill_smollm2  # noqa: E402
from models import pretrained  # noqa: E402
from models.pretrained import writing  # noqa: E402
from runner.checkpoint import tree_paths  # noqa: E402
from runner.machine import heap  # noqa: E402
from runner.recording.recorder import Recorder  # noqa: E402
from runner.records import shards  # noqa: E402
from runner.records.record import decode  # noqa: E402
from tests.benchmarks import timed_step  # noqa: E402

BATCH, LENGTH = 16, 128


def main() -> None:
    """Write what the other program reads; serve batches until the input ends."""
    heap.keep_pages()
    folder = Path(sys.argv[1])
    with contextlib.redirect_stdout(sys.stderr):
        recorder = fdl.build(recording()).recorder()
        write_inputs(folder, recorder)
        write_answers(folder, recorder)
    print(f"jax {jax.__version__}", flush=True)

    def record(batches: int) -> None:
        for _ in range(batches):
            records = recorder.records(range(BATCH))
            shards.write_shard(folder, 0, 1, records, recorder.layout, first=0)

    for line in sys.stdin:
        print(timed_step.seconds(functools.partial(record, int(line))), flush=True)


def recording() -> fdl.Config:
    """Return that of `configs/distill_smollm2.py`, of one batch of rows."""
    cfg = distill_smollm2.record.as_buildable()
    cfg.data = distill_smollm2.rows.as_buildable(split="train", num_rows=BATCH)
    cfg.batch_size = cfg.shard_size = BATCH
    return cfg


def write_inputs(folder: Path, recorder: Recorder) -> None:
    """Write the weights in float32 as transformers reads them, and the tokens."""
    opened = pretrained.open_model(distill_smollm2.SMOLLM2)
    (folder / "hf").mkdir()
    writing.folder.write(
        folder / "hf",
        writing.for_folder(opened.model),
        tree_paths.by_path(opened.arrays()),
        dtype="float32",
        context=LENGTH,
    )
    rows = recorder.dataset.rows(np.arange(BATCH))
    assert (rows["segment_ids"] == 1).all()  # one document a row: a plain causal mask
    np.save(folder / "tokens.npy", rows["tokens"])


def write_answers(folder: Path, recorder: Recorder) -> None:
    """Write what the records hold."""
    records = [decode(recorder.layout, x) for x in recorder.records(range(BATCH))]
    first = np.zeros((BATCH, LENGTH, 1), np.float32)
    np.savez(
        folder / "ours.npz",
        indices=[record.ids for record in records],
        logits=np.concatenate([first, [record.logits for record in records]], axis=-1),
        log_normalizers=[record.log_normalizers for record in records],
    )


if __name__ == "__main__":
    main()
