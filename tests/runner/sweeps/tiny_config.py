"""Runs of seconds, and sweeps of them.

runner --fdl_config=tests/runner/sweeps/tiny_config.py --fiddler='reads("FILE")' ...
"""

import functools

import fiddle as fdl
import optax
from fiddle.experimental.auto_config import auto_config

import losses
import models
import runner
from runner import data, sweeps
from runner.evaluation.evaluation import Evaluation

RATE = "fdl.optimizer.learning_rate.peak_value"
Z_LOSS = "fdl.losses.z_loss.weight"


@auto_config
def config() -> runner.Experiment:
    documents = data.TextFiles(files=("text.txt",))
    tokenizer = data.ByteBPE(documents=documents, vocab_size=300)
    text = data.TokenizedText(
        documents=documents, tokenizer=tokenizer, sequence_length=32
    )
    return runner.Experiment(
        student=functools.partial(
            models.Transformer, vocab_size=300, dim=16, num_layers=1, num_heads=2
        ),
        losses=[
            losses.LossTerm(name="ce", loss=losses.CrossEntropy()),
            losses.LossTerm(name="z_loss", loss=losses.ZLoss(), weight=1e-4),
        ],
        train_data=text,
        evaluations=[Evaluation(name="held_out", data=text, batch_size=8)],
        optimizer=optax.adamw(optax.warmup_cosine_decay_schedule(0.0, 1e-2, 5, 30)),
        num_steps=30,
        batch_size=8,
    )


def reads(cfg: fdl.Config, path: str) -> fdl.Config:
    """The text of `path`."""
    cfg.train_data.documents.files = (path,)
    return cfg


def breaks(cfg: fdl.Config) -> fdl.Config:
    """A vocabulary that is too small, which shows once the data are there."""
    cfg.student.vocab_size = 100
    return cfg


def lr() -> list[sweeps.Point]:
    """Learning rates by weights of the z-loss; one rate is far too large."""
    return sweeps.product(
        sweeps.values(RATE, 1e-3, 1e-2, 1e-1, 1e18),
        sweeps.values(Z_LOSS, 0.0, 1e-4),
    )


def rates(*values: float) -> list[sweeps.Point]:
    """--sweep='rates(1e-3, 1e-2)'"""
    return sweeps.values(RATE, *values)


def broken() -> list[sweeps.Point]:
    """One of three units fails."""
    good = rates(1e-3, 1e-2)
    return [good[0], *sweeps.values("fiddler", "breaks"), good[1]]


def drawn(num: int = 6) -> list[sweeps.Point]:
    """Both at random."""
    return sweeps.random_points(
        {RATE: sweeps.log_uniform(1e-4, 1e-1), Z_LOSS: sweeps.uniform(0.0, 1e-3)},
        num=num,
        seed=1,
    )
