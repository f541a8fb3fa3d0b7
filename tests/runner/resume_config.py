"""A student so small that a run takes seconds, with a state of every kind.

runner --fdl_config=tests/runner/resume_config.py --fiddler='reads("FILE")' ...
"""

import functools

import fiddle as fdl
import optax
from fiddle.experimental.auto_config import auto_config

import losses
import models
import runner
from runner import data
from runner.evaluation.evaluation import Evaluation


@auto_config
def config() -> runner.Experiment:
    documents = data.TextFiles(files=("text.txt",))
    tokenizer = data.ByteBPE(documents=documents, vocab_size=300)
    text = data.TokenizedText(
        documents=documents, tokenizer=tokenizer, sequence_length=32
    )
    return runner.Experiment(
        student=functools.partial(
            models.Transformer,
            vocab_size=300,
            dim=32,
            num_layers=2,
            num_heads=2,
            mlp=functools.partial(models.MoE, num_experts=4, hidden_dim=32),
        ),
        losses=[
            losses.LossTerm(
                name="ce",
                loss=losses.CrossEntropy(),
                token_weight=losses.LearningProgress(num_rows=330),
            ),
            losses.LossTerm(name="z_loss", loss=losses.ZLoss(), weight=1e-4),
            losses.LossTerm(
                name="load_balance", loss=losses.LoadBalance(), weight=1e-2
            ),
            losses.Group(
                name="teacher",
                weight=losses.MatchValue(to="ce", scale=0.1, decay=0.9, cap=10.0),
                terms=[
                    losses.LossTerm(
                        name="kd",
                        loss=losses.ForwardKL(),
                        weight=optax.linear_schedule(1.0, 0.5, 60),
                    ),
                    losses.LossTerm(
                        name="reverse",
                        loss=losses.ReverseKL(),
                        weight=losses.Uncertainty(),
                    ),
                ],
            ),
            losses.LossTerm(
                name="features",
                loss=functools.partial(
                    losses.Projected,
                    loss=losses.FeatureMSE(layers=((0, 0),)),
                    student_dim=32,
                    teacher_dim=32,
                ),
                mask=losses.token_mask,
            ),
        ],
        train_data=text,
        evaluations=[Evaluation(name="held_out", data=text, batch_size=8)],
        optimizer=optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.adamw(optax.warmup_cosine_decay_schedule(0.0, 1e-2, 5, 60)),
        ),
        num_steps=60,
        batch_size=8,
        teacher=runner.EMATeacher(decay=0.9),
    )


def reads(cfg: fdl.Config, path: str) -> fdl.Config:
    """The text of `path`."""
    cfg.train_data.documents.files = (path,)
    return cfg


def mixes(cfg: fdl.Config, path: str, turn: int = 96) -> fdl.Config:
    """Most rows of that text, then after `turn` rows most of the text of `path`."""
    text = cfg.train_data
    other = fdl.copy_with(text, documents=fdl.Config(data.TextFiles, files=(path,)))
    cfg.train_data = fdl.Config(
        data.Mixture,
        data=[text, other],
        stages=[
            fdl.Config(data.Stage, weights=(3, 1), rows=turn),
            fdl.Config(data.Stage, weights=(1, 2)),
        ],
    )
    cfg.losses[0].token_weight.num_rows = 752  # those of both texts
    return cfg


def writes(cfg: fdl.Config) -> fdl.Config:
    """More and more of the rows are the student's own, as it was up to 3 steps ago.

    A third of their tokens is drawn from the teacher, its average.
    """
    cfg.train_data = fdl.Config(
        data.OnPolicy,
        data=cfg.train_data,
        fraction=fdl.Partial(_grown, last=60),
        max_new_tokens=8,
        prompt_tokens=6,
        refresh_every=4,
        teacher_share=0.3,
    )
    return cfg


def _grown(step, *, last):
    return step / last


def keeps_best(cfg: fdl.Config, every: int = 6, patience: int = 2) -> fdl.Config:
    """Stop by calibration, which soon gets worse."""
    cfg.keep_best = fdl.Config(
        runner.KeepBest,
        metric="held_out/calibration_error",
        every=every,
        patience=patience,
    )
    return cfg
