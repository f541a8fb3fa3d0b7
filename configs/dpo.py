r"""Dense student that prefers how a text goes on: DPO, and labels of the chosen.

    runner --fdl_config=configs/dpo.py --workdir=/tmp/dpo

A pair is made of the standard library: the next four lines, rather than four lines from
before. For pairs of your own, `--fiddler='reads("pairs.jsonl")'`: lines of
`{"prompt": ..., "chosen": ..., "rejected": ...}`. The usual order is a trained model
first, which is the start and the reference:

    runner --fdl_config=configs/dense.py --workdir=runs/teacher
    runner --fdl_config=configs/dpo.py --workdir=/tmp/after \
        --fiddler='after("runs/teacher")'

200 steps from fresh weights, held out: cross-entropy of the chosen 8.34 to 6.95
nats/token, DPO 0.693 to 1.10 nats/pair. It rises: sums of log-probabilities gain by
length what all text gains, and no preference is learnt yet. Hence the order above.
2 cores, shared with some thirty processes: 34 min.
"""

import functools

import fiddle as fdl
import optax
from fiddle.experimental.auto_config import auto_config

import losses
import models
import runner
from runner.data import (
    ByteBPE,
    Continuations,
    PairRecords,
    Part,
    PreferencePairs,
    PythonLibrary,
)


@auto_config
def config() -> runner.Experiment:
    tokenizer = ByteBPE(documents=PythonLibrary(split="train"), vocab_size=4096)
    return runner.Experiment(
        student=functools.partial(
            models.Transformer,
            vocab_size=4096,
            dim=192,
            num_layers=4,
            num_heads=4,
            embedding_init=models.Normal(stddev=0.02),
            embedding_scale=50.0,
        ),
        teacher=runner.StartTeacher(),
        losses=[
            losses.LossTerm(name="dpo", loss=losses.DPO(beta=0.1)),
            losses.LossTerm(
                name="ce", loss=losses.CrossEntropy(), mask=losses.chosen_mask
            ),
        ],
        train_data=PreferencePairs(
            examples=Continuations(documents=PythonLibrary(split="train")),
            tokenizer=tokenizer,
            sequence_length=256,
        ),
        evaluations=[
            runner.Evaluation(
                name="held_out",
                data=Part(
                    data=PreferencePairs(
                        examples=Continuations(
                            documents=PythonLibrary(split="held_out")
                        ),
                        tokenizer=tokenizer,
                        sequence_length=256,
                    ),
                    num_rows=128,
                ),
                batch_size=16,
                metrics=[losses.PairAccuracy(), losses.RewardMargin(beta=0.1)],
            )
        ],
        optimizer=runner.optimizers.adamw(
            optax.warmup_cosine_decay_schedule(
                init_value=0.0, peak_value=2e-3, warmup_steps=20, decay_steps=200
            ),
        ),
        num_steps=200,
        batch_size=8,
    )


def after(cfg: fdl.Config, workdir: str):
    """--fiddler='after("runs/teacher")': from a trained student, by DPO alone."""
    cfg.start = fdl.Config(runner.starts.Run, workdir=workdir)
    cfg.losses = [term for term in cfg.losses if term.name == "dpo"]
    cfg.optimizer.learning_rate.peak_value = 1e-4


def reads(cfg: fdl.Config, pairs: str):
    """--fiddler='reads("pairs.jsonl")': pairs of your own, to train on."""
    records = fdl.Config(runner.data.JsonLines, files=[pairs])
    cfg.train_data.examples = fdl.Config(PairRecords, records=records)
