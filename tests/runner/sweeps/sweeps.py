"""Sweeps as work directories would tell of them, without a run."""

import dataclasses
import json
from pathlib import Path

from runner import sweeps
from runner.sweeps import frozen, plan, points

RATE = "fdl.optimizer.learning_rate.peak_value"
Z_LOSS = "fdl.losses.z_loss.weight"
NAMES = {RATE: "peak_value", Z_LOSS: "z_loss.weight"}
UNTRAINED = 8.0


def made(directory, ended, *, names=NAMES, untrained=UNTRAINED):
    """A sweep of (point, end): a loss, losses by evaluation, words of failure, or None.

    None has not begun; `...` is at step 2 of 9.
    """
    entries, path = [], Path(directory)
    for number, (point, end) in enumerate(ended):
        label = points.label(point, names)
        name = plan.directory(number, len(ended), label)
        unit = path / "units" / name
        unit.mkdir(parents=True)
        (unit / "config.txt").write_text("num_steps: 9\n")
        rows = [{"step": 0, "held_out/loss": untrained}, {"step": 2, "learning/ce": 1}]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        if end is not None:
            (unit / "metrics.jsonl").write_text(lines)
        if isinstance(end, str):
            note = json.dumps({"code": 1, "said": end})
            (unit / "failure.json").write_text(note)
        elif end is not None and end is not ...:
            losses = end if isinstance(end, dict) else {"held_out": end}
            found = {name: {"loss": loss} for name, loss in losses.items()}
            (unit / "result.json").write_text(json.dumps({"evaluations": found}))
        entries.append(dataclasses.asdict(frozen.entry(name, point)))
    content = {
        "version": frozen.VERSION,
        "said": {"graph": "a.py", "overrides": [], "sweep": "lr"},
        "source": "",
        "names": names,
        "units": entries,
    }
    (path / "sweep.json").write_text(json.dumps(content))
    return sweeps.load(path)
