"""70B teacher, 8B student: a lay-out to be looked at, not a run.

    runner --fdl_config=configs/distill_70b.py --gin_file=LAYOUT.gin --dry_run

with configs/runtime/v5e_256.gin or h100_node.gin. Compiled, not run: weights and a text
in their tokens are not here, and a run is refused. docs/layouts.md has the outcome.

Sizes of Llama 3 70B and 8B: Grattafiori et al. 2024 (arXiv:2407.21783), table 3.
"""

import functools

import optax
from fiddle.experimental.auto_config import auto_config

import losses
import models
import runner

VOCABULARY = 128_256


@auto_config
def config() -> runner.Experiment:
    return runner.Experiment(
        # Llama 3 8B learns from Llama 3 70B, which only runs forward: in bfloat16 it is
        # half as large.
        student=functools.partial(
            models.Transformer,
            vocab_size=VOCABULARY,
            dim=4096,
            num_layers=32,
            num_heads=32,
            num_kv_heads=8,
            mlp=functools.partial(models.GatedMLP, hidden_dim=14_336),
            norm_eps=1e-5,
            rope_base=500_000.0,
            layers="stacked",
            dtype="bfloat16",
        ),
        teacher=runner.OnlineTeacher(
            checkpoint="runs/llama_70b",
            model=functools.partial(
                models.Transformer,
                vocab_size=VOCABULARY,
                dim=8192,
                num_layers=80,
                num_heads=64,
                num_kv_heads=8,
                mlp=functools.partial(models.GatedMLP, hidden_dim=28_672),
                norm_eps=1e-5,
                rope_base=500_000.0,
                layers="stacked",
                dtype="bfloat16",
                param_dtype="bfloat16",
            ),
        ),
        losses=[
            losses.LossTerm(name="ce", loss=losses.CrossEntropy(), weight=0.5),
            losses.LossTerm(name="kd", loss=losses.ForwardKL(), weight=1.0),
            losses.LossTerm(name="z_loss", loss=losses.ZLoss(), weight=1e-4),
        ],
        # Shapes of data, for a dry run: there are no tokens behind it.
        train_data=runner.data.PlannedTokens(
            vocab_size=VOCABULARY, sequence_length=4096
        ),
        optimizer=runner.optimizers.adamw(
            optax.warmup_cosine_decay_schedule(
                init_value=0.0, peak_value=3e-4, warmup_steps=500, decay_steps=10_000
            ),
        ),
        num_steps=10_000,
        batch_size=256,
    )
