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
    train_data = fdl.Config(
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
            num_layers=2,
            num_heads=2,
            mlp=fdl.Partial(models.MoE, num_experts=2, hidden_dim=8),
        ),
        losses=[
            fdl.Config(
                losses.LossTerm,
                name="ce",
                loss=fdl.Config(losses.CrossEntropy),
                token_weight=fdl.Config(losses.LearningProgress, num_rows=215),
            ),
            fdl.Config(
                losses.LossTerm,
                name="z_loss",
                loss=fdl.Config(losses.ZLoss),
                weight=0.0001,
            ),
            fdl.Config(
                losses.LossTerm,
                name="load_balance",
                loss=fdl.Config(losses.LoadBalance),
                weight=0.01,
            ),
            fdl.Config(
                losses.Group,
                name="teacher",
                terms=[
                    fdl.Config(
                        losses.LossTerm,
                        name="kd",
                        loss=fdl.Config(losses.ForwardKl),
                        weight=fdl.Config(
                            optax.linear_schedule,
                            init_value=1.0,
                            end_value=0.5,
                            transition_steps=60,
                        ),
                    ),
                    fdl.Config(
                        losses.LossTerm,
                        name="reverse",
                        loss=fdl.Config(losses.ReverseKl),
                        weight=fdl.Config(losses.Uncertainty),
                    ),
                ],
                weight=fdl.Config(
                    losses.MatchValue,
                    to="ce",
                    scale=0.1,
                    decay=0.9,
                    cap=10.0,
                ),
            ),
            fdl.Config(
                losses.LossTerm,
                name="features",
                loss=fdl.Partial(
                    losses.Projected,
                    loss=fdl.Config(losses.FeatureMse, layers=((0, 0),)),
                    student_dim=8,
                    teacher_dim=8,
                ),
                mask=losses.token_mask,
            ),
        ],
        train_data=train_data,
        optimizer=fdl.Config(
            optax.chain,
            fdl.Config(optax.clip_by_global_norm, max_norm=1.0),
            fdl.Config(
                optax.adamw,
                learning_rate=fdl.Config(
                    optax.warmup_cosine_decay_schedule,
                    init_value=0.0,
                    peak_value=0.01,
                    warmup_steps=5,
                    decay_steps=60,
                ),
            ),
        ),
        num_steps=8,
        batch_size=8,
        teacher=fdl.Config(runner.EmaTeacher, decay=0.9),
        evaluations=[
            fdl.Config(
                runner.Evaluation,
                name="held_out",
                data=train_data,
                batch_size=8,
            ),
        ],
    )
