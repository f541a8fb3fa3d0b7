"""The writers for Weights & Biases and MLflow with the real libraries, offline.

python tests/parity/trackers.py SITE_PACKAGES_WITH_BOTH

`make trackers` gives wandb and mlflow an environment of their own. A run ends and goes
on: one id, and in wandb two files of records.
"""

# pyright: reportMissingImports=false

import os
import re
import struct
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path

# Last, so that only what is not here already comes from there.
sys.path.append(sys.argv[1])
os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
os.environ |= {"MLFLOW_ALLOW_FILE_STORE": "true"}

import mlflow
from wandb.proto import wandb_internal_pb2

from runner import writers

BLOCK, FULL, LAST = 32768, 1, 4
GRAPH = "losses.ce.weight: 0.5\nnum_steps: 300\n"


def main() -> None:
    """Write a run in two parts; print what each library has of it."""
    of_wandb()
    of_mlflow()


def of_mlflow() -> None:
    """Check the writer that docs/work_directory.md shows."""
    page = (Path(__file__).parents[2] / "docs" / "work_directory.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    module = types.ModuleType("mlflow_writer")
    sys.modules[module.__name__] = module
    exec(code, vars(module))
    with tempfile.TemporaryDirectory() as directory:
        mlflow.set_tracking_uri(f"file:{directory}/mlruns")
        workdir = Path(directory) / "run"
        workdir.mkdir()
        for start, loss in ((-1, 3.0), (5, 2.0)):
            writer = vars(module)["MLflow"]()
            writer.open(workdir, start_step=start)
            writer.write(start + 5, {"learning/ce": loss})
            writer.close()
        (run,) = mlflow.search_runs(experiment_names=["retort"], output_format="list")
        client = mlflow.MlflowClient()
        history = client.get_metric_history(run.info.run_id, "learning/ce")
        assert [(x.step, x.value) for x in history] == [(4, 3.0), (10, 2.0)], history
        assert run.info.run_name == "run"
    print("trackers: mlflow has one run of two parts")


def of_wandb() -> None:
    """Check the project's own writer."""
    with tempfile.TemporaryDirectory() as directory:
        unit = Path(directory) / "lr" / "units" / "00-peak=0.1"
        unit.mkdir(parents=True)
        (unit / "config.txt").write_text(GRAPH)
        for start, loss in ((-1, 3.0), (5, 2.0)):
            writer = writers.create(unit, start_step=start, wandb_project="retort")
            writer.write_scalars(
                start + 5, {"learning/ce": loss, "held_out/loss": loss}
            )
            writer.write_texts(start + 5, {"samples/0": "<b>text"})
            writer.close()
        files = sorted((unit / "wandb").glob("offline-run-*/*.wandb"))
        runs, history, summary = [], [], {}
        for file in files:
            for record in records(file):
                runs += [record.run] if record.HasField("run") else []
                items = record.history.item
                history += [
                    {"/".join(i.nested_key) or i.key: i.value_json for i in items}
                ]
                summary |= {i.key: i.value_json for i in record.summary.update}
    (project, name, group), *others = {
        (r.project, r.display_name, r.run_group) for r in runs if r.project
    }
    assert not others and (project, name, group) == ("retort", "00-peak=0.1", "lr")
    assert len({run.run_id for run in runs if run.run_id}) == 1, "one id"
    config = {u.key: u.value_json for run in runs for u in run.config.update}
    assert (config["losses.ce.weight"], config["num_steps"]) == ("0.5", "300")
    losses = [float(row["learning/ce"]) for row in history if "learning/ce" in row]
    assert losses == [3.0, 2.0], losses
    assert float(summary["held_out/loss"]) == 2.0, summary
    print(f"trackers: wandb has {len(files)} parts of one run, config, group, summary")


def records(file: Path) -> Iterator[wandb_internal_pb2.Record]:
    """Yield the records of a file of wandb: LevelDB's log format, behind 7 bytes."""
    data, at, whole = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:  # too little of a block for another header
            at += BLOCK - at % BLOCK
            continue
        size, kind = struct.unpack_from("<HB", data, at + 4)
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (FULL, LAST):
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


if __name__ == "__main__":
    main()
