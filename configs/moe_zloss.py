"""MoE student, with z-loss on the output logits and on the router.

    runner --fdl_config=configs/moe_zloss.py --workdir=/tmp/moe_zloss
    runner --fdl_config=configs/moe_zloss.py --sweep=lr --workdir=/tmp/moe_zloss_lr

2 cores: 4 min. Held-out loss 4.27 nats/token, 1.60 bits/byte (bigram 4.93 and 1.84,
xz 1.73), after 1,200 steps on the standard library of Python 3.11.

Embeddings start small and are scaled up, which is a fiftyfold learning rate for them.
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
        losses=[
            losses.LossTerm(name="ce", loss=losses.CrossEntropy()),
            losses.LossTerm(name="z_loss", loss=losses.ZLoss(), weight=1e-4),
            losses.LossTerm(name="router_z", loss=losses.RouterZLoss(), weight=1e-3),
            losses.LossTerm(
                name="load_balance", loss=losses.LoadBalance(), weight=1e-2
            ),
        ],
        train_data=train,
        evaluations=[runner.Evaluation(name="held_out", data=held_out, batch_size=32)],
        optimizer=runner.optimizers.adamw(
            optax.warmup_cosine_decay_schedule(
                init_value=0.0, peak_value=5e-3, warmup_steps=60, decay_steps=1200
            ),
        ),
        num_steps=1200,
        batch_size=8,
    )


def steps(cfg: fdl.Config, num_steps: int):
    """--fiddler='steps(300)': another length, schedule included."""
    rate = cfg.optimizer.learning_rate
    cfg.num_steps = rate.decay_steps = num_steps
    rate.warmup_steps = min(rate.warmup_steps, num_steps // 2)


def lr() -> list[runner.sweeps.Point]:
    """--sweep=lr: three learning rates by two weights of the z-loss."""
    return runner.sweeps.product(
        runner.sweeps.values(
            "fdl.optimizer.learning_rate.peak_value", 1e-3, 5e-3, 2e-2
        ),
        runner.sweeps.values("fdl.losses.z_loss.weight", 0.0, 1e-4),
    )
