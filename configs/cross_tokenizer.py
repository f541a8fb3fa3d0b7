r"""Student that learns from a teacher of another tokenizer, and from the labels.

    runner --fdl_config=configs/dense.py --workdir=runs/teacher
    runner --fdl_config=configs/cross_tokenizer.py --workdir=/tmp/cross_tokenizer

The student reads the text in 1,024 tokens, the teacher in the 4,096 of
`configs/dense.py`; seven of ten of the student's tokens begin a span of both.

2 cores: 1 min. Held-out loss after 150 steps, with the teacher of `make demo`, of three
seeds: 4.305 nats/token, 2.225 bits/byte; 4.313 and 2.229 from labels alone
(`--fiddler=labels_only`): no gain beyond the spread of seeds.
"""

import functools

import fiddle as fdl
import optax
from fiddle.experimental.auto_config import auto_config

import losses
import models
import runner


@auto_config
def config() -> runner.Experiment:
    train, held_out = runner.data.python_library_text(
        sequence_length=128, vocab_size=1024
    )
    return runner.Experiment(
        student=functools.partial(
            models.Transformer,
            vocab_size=1024,
            dim=128,
            num_layers=3,
            num_heads=4,
            embedding_init=models.Normal(stddev=0.02),
            embedding_scale=50.0,
        ),
        teacher=runner.Aligned(
            teacher=runner.OnlineTeacher(checkpoint="runs/teacher"),
            tokenizer=runner.data.ByteBPE(
                documents=runner.data.PythonLibrary(split="train"), vocab_size=4096
            ),
        ),
        losses=[
            losses.LossTerm(name="ce", loss=losses.CrossEntropy()),
            losses.LossTerm(name="spans", loss=losses.SpanLikelihood()),
            losses.LossTerm(name="aligned", loss=losses.AlignedShare(), weight=0.0),
        ],
        train_data=runner.data.Part(data=train, num_rows=1200),
        evaluations=[
            runner.Evaluation(
                name="held_out",
                data=runner.data.Part(data=held_out, num_rows=512),
                batch_size=32,
            )
        ],
        optimizer=runner.optimizers.adamw(
            optax.warmup_cosine_decay_schedule(
                init_value=0.0, peak_value=5e-3, warmup_steps=30, decay_steps=150
            ),
        ),
        num_steps=150,
        batch_size=8,
    )


def labels_only(cfg: fdl.Config):
    """--fiddler=labels_only: no teacher."""
    cfg.teacher = None
    cfg.losses = cfg.losses[:1]


def by_rank(cfg: fdl.Config):
    """--fiddler=by_rank: GOLD's hybrid of shared tokens and ranks at spans' ends."""
    cfg.losses[1].loss = fdl.Config(losses.HybridULD)


def shared(cfg: fdl.Config):
    """--fiddler=shared: distributions of spans' first tokens, over shared tokens."""
    cfg.losses[1].loss = fdl.Config(losses.ForwardKL, sparse="renormalize_both")


def steps(cfg: fdl.Config, num_steps: int):
    """--fiddler='steps(100)': another length, schedule included."""
    rate = cfg.optimizer.learning_rate
    cfg.num_steps = rate.decay_steps = num_steps
    rate.warmup_steps = min(rate.warmup_steps, num_steps // 2)
    cfg.train_data.num_rows = num_steps * cfg.batch_size
