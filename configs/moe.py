"""MoE student, cross-entropy and load balance.

runner --fdl_config=configs/moe.py --workdir=/tmp/moe
"""

import functools

import optax
from fiddle.experimental.auto_config import auto_config

import losses
import models
from losses import LossTerm
from runner import data, optimizers
from runner.evaluation import Evaluation
from runner.experiment import Experiment


@auto_config
def config() -> Experiment:
    tokenizer = data.ByteBpe(
        documents=data.PythonLibrary(split="train"), vocab_size=4096
    )
    return Experiment(
        student=functools.partial(
            models.Transformer,
            vocab_size=4096,
            dim=192,
            num_layers=4,
            num_heads=4,
            mlp=functools.partial(models.MoE, num_experts=4, experts_per_token=1),
        ),
        losses=[
            LossTerm(name="ce", loss=losses.CrossEntropy()),
            LossTerm(name="load_balance", loss=losses.LoadBalance(), weight=1e-2),
        ],
        train_data=data.TokenizedText(
            documents=data.PythonLibrary(split="train"),
            tokenizer=tokenizer,
            sequence_length=128,
        ),
        evaluations=[
            Evaluation(
                name="held_out",
                data=data.TokenizedText(
                    documents=data.PythonLibrary(split="held_out"),
                    tokenizer=tokenizer,
                    sequence_length=128,
                ),
                batch_size=32,
            )
        ],
        optimizer=optimizers.adamw(
            optax.warmup_cosine_decay_schedule(
                init_value=0.0, peak_value=3e-3, warmup_steps=40, decay_steps=600
            ),
        ),
        num_steps=600,
        batch_size=16,
    )
