"""The graph of a run, as resolved.

runner --fdl_config=config.py --workdir=NEW
"""

import fiddle as fdl
import optax

import losses
import models
import runner
import runner.data


def config():
    documents = fdl.Config(runner.data.TextFiles, files=("text.txt",))
    tokenizer = fdl.Config(
        runner.data.ByteBpe,
        documents=documents,
        vocab_size=272,
    )
    data = fdl.Config(
        runner.data.TokenizedText,
        documents=documents,
        tokenizer=tokenizer,
        sequence_length=32,
    )
    return fdl.Config(
        runner.Experiment,
        student=fdl.Partial(
            models.Transformer,
            vocab_size=272,
            dim=8,
            num_layers=1,
            num_heads=2,
        ),
        losses=[
            fdl.Config(
                losses.LossTerm,
                name="ce",
                loss=fdl.Config(losses.CrossEntropy),
            ),
            fdl.Config(
                losses.LossTerm,
                name="z_loss",
                loss=fdl.Config(losses.ZLoss),
                weight=0.0001,
            ),
            fdl.Config(
                losses.LossTerm,
                name="kd",
                loss=fdl.Config(losses.ForwardKl, temperature=2.0),
            ),
        ],
        train_data=fdl.Config(runner.data.Part, data=data, num_rows=32),
        optimizer=fdl.Config(
            optax.adamw,
            learning_rate=fdl.Config(
                optax.warmup_cosine_decay_schedule,
                init_value=0.0,
                peak_value=0.01,
                warmup_steps=2,
                decay_steps=4,
            ),
        ),
        num_steps=8,
        batch_size=8,
        evaluations=[
            fdl.Config(
                runner.Evaluation,
                name="held_out",
                data=data,
                batch_size=8,
            ),
        ],
        teacher=fdl.Config(
            runner.OfflineTeacher,
            records="records",
            teacher=fdl.Config(runner.OnlineTeacher, checkpoint="teacher"),
        ),
    )
