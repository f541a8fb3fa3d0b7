"""MoE student that learns from a dense teacher's records and from the labels.

    runner --fdl_config=configs/dense.py --workdir=runs/teacher
    runner --fdl_config=configs/record_teacher.py --workdir=runs/records
    runner --fdl_config=configs/distill.py --workdir=/tmp/distill

2 cores: 2 min. As `make demo` runs it, 300 steps with a teacher of 700 (4.54
nats/token): held-out loss 4.66 nats/token from records, 4.60 from the live model
(`--fiddler=online`), 4.99 from labels alone (`--fiddler=labels_only`).
"""

import fiddle as fdl
import optax
from fiddle.experimental.auto_config import auto_config

import losses
import runner
from models import students


@auto_config
def config() -> runner.Experiment:
    train, held_out = runner.data.python_library_text(sequence_length=128)
    return runner.Experiment(
        student=students.small_moe(),
        teacher=runner.OfflineTeacher(records="runs/records"),
        losses=[
            losses.LossTerm(name="ce", loss=losses.CrossEntropy(), weight=0.5),
            losses.LossTerm(name="kd", loss=losses.ForwardKL(), weight=1.0),
            losses.LossTerm(name="z_loss", loss=losses.ZLoss(), weight=1e-4),
            losses.LossTerm(name="router_z", loss=losses.RouterZLoss(), weight=1e-3),
            losses.LossTerm(
                name="load_balance", loss=losses.LoadBalance(), weight=1e-2
            ),
        ],
        train_data=runner.data.Part(data=train, num_rows=3200),
        evaluations=[runner.Evaluation(name="held_out", data=held_out, batch_size=32)],
        optimizer=runner.optimizers.adamw(
            optax.warmup_cosine_decay_schedule(
                init_value=0.0, peak_value=5e-3, warmup_steps=40, decay_steps=400
            ),
        ),
        num_steps=400,
        batch_size=8,
    )


def online(cfg: fdl.Config, checkpoint: str = "runs/teacher"):
    """--fiddler=online: the model itself in place of its records."""
    cfg.teacher = fdl.Config(runner.OnlineTeacher, checkpoint=checkpoint)


def two_heads(cfg: fdl.Config):
    """--fiddler=two_heads: the teacher is learnt from on a head of its own."""
    cfg.losses[1].loss = fdl.Partial(
        losses.OwnHead, loss=cfg.losses[1].loss, dim=192, num_outputs=4096
    )


def labels_only(cfg: fdl.Config):
    """--fiddler=labels_only: no teacher, the labels at full weight."""
    cfg.teacher = None
    cfg.losses = [term for term in cfg.losses if term.name != "kd"]
    cfg.losses[0].weight = 1.0


def steps(cfg: fdl.Config, num_steps: int):
    """--fiddler='steps(300)': another length; the records must have as many rows."""
    cfg.num_steps = num_steps
    cfg.optimizer.learning_rate.decay_steps = num_steps
    cfg.optimizer.learning_rate.warmup_steps = num_steps // 10
    cfg.train_data.num_rows = num_steps * cfg.batch_size
