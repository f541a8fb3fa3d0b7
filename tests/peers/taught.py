"""A teacher for the steps of `own_step.py`: a checkpoint, and records of its rows."""

import sys
from pathlib import Path

import fiddle as fdl

import losses
import runner
from runner import main

ROOT = Path(__file__).resolve().parents[2]
ROWS = 32


def teach(kind: str, cfg: fdl.Config, folder: Path) -> None:
    """Let the student learn from an untrained teacher of its own shape.

    Args:
      kind: `online`, by the generalised JSD at 0.5 of both models; `offline`, by the
        forward KL to 64 recorded entries, and from labels at half the weight.
      cfg: of the experiment, which is changed.
      folder: for the teacher and its records.
    """
    _command(folder / "teacher", "dense", "num_steps=1", "evaluations=[]")
    if kind == "online":
        cfg.teacher = fdl.Config(
            runner.OnlineTeacher, checkpoint=str(folder / "teacher")
        )
        cfg.losses = [
            fdl.Config(
                losses.LossTerm,
                name="jsd",
                loss=fdl.Config(losses.JensenShannon, beta=0.5),
            )
        ]
        return
    _command(
        folder / "records",
        "record_teacher",
        f"data.num_rows={ROWS}",
        f"teacher.checkpoint={folder / 'teacher'}",
    )
    cfg.teacher = fdl.Config(runner.OfflineTeacher, records=str(folder / "records"))
    cfg.train_data = fdl.Config(runner.data.Part, data=cfg.train_data, num_rows=ROWS)
    kd = fdl.Config(losses.LossTerm, name="kd", loss=fdl.Config(losses.ForwardKL))
    ce = fdl.Config(
        losses.LossTerm, name="ce", loss=fdl.Config(losses.CrossEntropy), weight=0.5
    )
    cfg.losses = [ce, kd]


def _command(workdir: Path, name: str, *sets: str) -> None:
    flags = [f"--fdl.{value}" for value in sets]
    config = f"--fdl_config={ROOT / 'configs' / name}.py"
    argv = ["runner", config, "--gin.loop.quiet=True", *flags, f"--workdir={workdir}"]
    if code := main.main(argv):
        sys.exit(code)
