"""Dense student of conversations: the loss counts the assistant's replies alone.

    runner --fdl_config=configs/chat.py --workdir=/tmp/chat

2 cores: about 2 min. Held-out loss 3.71 nats/token over the replies, 2.16 bits/byte,
after 300 steps on questions about the standard library of Python 3.11.

Chats of your own take the place of both `records`, and a tokenizer with a template of
its own that of `tokenizer` (docs/data.md).
"""

import functools

import fiddle as fdl
import optax
from fiddle.experimental.auto_config import auto_config

import losses
import models
from runner import Evaluation, Experiment, data, optimizers


@auto_config
def config() -> Experiment:
    tokenizer = data.ByteBPE(
        documents=data.PythonLibrary(split="train"), vocab_size=1024
    )
    return Experiment(
        student=functools.partial(
            models.Transformer,
            vocab_size=1024,
            dim=96,
            num_layers=2,
            num_heads=4,
            embedding_init=models.Normal(stddev=0.02),
            embedding_scale=50.0,
        ),
        losses=[
            losses.LossTerm(name="ce", loss=losses.CrossEntropy()),
        ],
        train_data=data.Chat(
            records=data.PythonQuestions(split="train"),
            tokenizer=tokenizer,
            sequence_length=128,
            template="plain",
        ),
        evaluations=[
            Evaluation(
                name="held_out",
                data=data.Chat(
                    records=data.PythonQuestions(split="held_out"),
                    tokenizer=tokenizer,
                    sequence_length=128,
                    template="plain",
                ),
                batch_size=32,
            )
        ],
        optimizer=optimizers.adamw(
            optax.warmup_cosine_decay_schedule(
                init_value=0.0, peak_value=5e-3, warmup_steps=30, decay_steps=300
            ),
        ),
        num_steps=300,
        batch_size=8,
    )


def steps(cfg: fdl.Config, num_steps: int):
    """--fiddler='steps(300)': another length, schedule included."""
    rate = cfg.optimizer.learning_rate
    cfg.num_steps = rate.decay_steps = num_steps
    rate.warmup_steps = min(rate.warmup_steps, num_steps // 2)


def own(cfg: fdl.Config, files: str, held_out: str, tokenizer: str):
    """--fiddler='own(files="a.jsonl", held_out="b.jsonl", tokenizer="t.json")'."""
    for source, path in (
        (cfg.train_data, files),
        (cfg.evaluations[0].data, held_out),
    ):
        source.records = fdl.Config(data.JsonLines, files=[path])
        source.tokenizer = fdl.Config(data.TokenizerFile, file=tokenizer)
        source.template = ""
