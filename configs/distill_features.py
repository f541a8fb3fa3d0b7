"""MoE student that learns from a dense teacher's layers too, besides its distribution.

    runner --fdl_config=configs/dense.py --workdir=runs/teacher
    runner --fdl_config=configs/distill_features.py --workdir=/tmp/distill_features

2 cores: 2 min. After 300 steps with a teacher of 700 (4.54 nats/token), as `make demo`
trains them: held-out loss 4.56 nats/token.
"""

import functools

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
        teacher=runner.OnlineTeacher(checkpoint="runs/teacher"),
        losses=[
            losses.LossTerm(name="ce", loss=losses.CrossEntropy(), weight=0.5),
            losses.LossTerm(name="kd", loss=losses.ForwardKL(), weight=1.0),
            # Hidden states and relations of layers, of tokens without a target too.
            losses.LossTerm(
                name="features",
                loss=functools.partial(
                    losses.Projected,
                    loss=losses.FeatureCosine(layers=((1, 1), (3, 3))),
                    student_dim=192,
                    teacher_dim=192,
                ),
                weight=1.0,
                mask=losses.token_mask,
            ),
            losses.LossTerm(
                name="value_relations",
                loss=losses.Relations(of="values", layers=((3, 3),), heads=4),
                weight=1.0,
                mask=losses.token_mask,
            ),
            # What keeps logits and routers in range; no teacher is needed.
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


def steps(cfg: fdl.Config, num_steps: int):
    """--fiddler='steps(300)': another length, schedule and rows included."""
    cfg.num_steps = num_steps
    cfg.optimizer.learning_rate.decay_steps = num_steps
    cfg.optimizer.learning_rate.warmup_steps = num_steps // 10
    cfg.train_data.num_rows = num_steps * cfg.batch_size
