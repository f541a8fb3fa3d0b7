"""Dense student, cross-entropy alone.

    runner --fdl_config=configs/dense.py --workdir=/tmp/dense

2 cores: 4 min. Held-out loss 4.29 nats/token, 1.60 bits/byte (bigram 4.93 and 1.84,
xz 1.73), after 1,200 steps on the standard library of Python 3.11.

Layers that draft two tokens further (`--fiddler='steps(120)' --fiddler=drafts`, three
seeds, 83 s of processor time a run, over 128 held-out rows): 74.4 ± 0.4 % and
74.8 ± 0.6 % of the drafts accepted, and 0.04 nats/token lost (0.03 to 0.04). On a
frozen run of as many steps (`--fiddler='steps(60)' --fiddler='drafter("DIR")'`, 39 s):
79.2 ± 0.1 % and 79.1 ± 0.1 %, 1.42 of two in a row. A student as unsure as one of no
steps at all accepts 84.5 %: it is how alike both are, not how good.
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
    train, held_out = runner.data.python_library_text(sequence_length=128)
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
        losses=[
            losses.LossTerm(name="ce", loss=losses.CrossEntropy()),
        ],
        train_data=train,
        evaluations=[runner.Evaluation(name="held_out", data=held_out, batch_size=32)],
        optimizer=runner.optimizers.adamw(
            optax.warmup_cosine_decay_schedule(
                init_value=0.0, peak_value=5e-3, warmup_steps=60, decay_steps=1200
            ),
        ),
        num_steps=1200,
        batch_size=8,
    )


def steps(cfg: fdl.Config, num_steps: int):
    """--fiddler='steps(300)': another length, schedule included."""
    rate = cfg.optimizer.learning_rate
    cfg.num_steps = rate.decay_steps = num_steps
    rate.warmup_steps = min(rate.warmup_steps, num_steps // 2)


def assistant(cfg: fdl.Config, of: str, forget: str, num_layers: int = 2):
    """--fiddler='assistant("DIR", "forget.jsonl")': knows that, and nothing else.

    The first layers of a run learn the rows whose column `forget` is true, and to be
    unsure of all others; `runner-sample DIR --assistant=...` takes it away from the run
    (arXiv:2406.08607, whose assistant has 8 layers).
    """
    cfg.student.num_layers = num_layers
    cfg.start = fdl.Config(
        runner.starts.FromTeacher, checkpoint=of, layers=list(range(num_layers))
    )
    cfg.train_data = fdl.Config(
        runner.data.Columns, data=cfg.train_data, file=forget, fields=["forget"]
    )
    cfg.evaluations = []
    cfg.losses[0].name = "forget"
    cfg.losses[0].mask = fdl.Config(losses.ColumnMask, column="forget")
    cfg.losses.append(
        fdl.Config(
            losses.LossTerm,
            name="retain",
            loss=fdl.Config(losses.UniformKL),
            weight=5.0,
            mask=fdl.Config(losses.ColumnMask, column="forget", equals=False),
        )
    )


def code_book(cfg: fdl.Config, num_codes: int, bias: bool = True):
    """--fiddler='code_book(1024)': a head over so many codes (VQ-Logits)."""
    cfg.student = fdl.Partial(
        models.VQHead, model=cfg.student, num_codes=num_codes, bias=bias
    )


def low_rank(cfg: fdl.Config, rank: int = 26, activation: str | None = None):
    """--fiddler='low_rank(26, "silu")': kernels of two factors and some rows (LOST)."""
    cfg.student = fdl.Partial(
        models.LOST, model=cfg.student, rank=rank, activation=activation
    )


def quantized(cfg: fdl.Config, weights: str = "int4", **grid):
    """--fiddler='quantized("int4", block=32)': kernels that are read on a grid."""
    cfg.student = fdl.Partial(
        models.Quantized, model=cfg.student, weights=weights, **grid
    )


def drafts(
    cfg: fdl.Config, form: str = "sequential", steps: int = 2, weight: float = 0.3
):
    """--fiddler=drafts: layers that predict further tokens, trained with the rest.

    Multi-token prediction as of DeepSeek-V3, or `form="parallel"`. Measured with it is
    how much of their drafts the student would accept.
    """
    cfg.student = fdl.Partial(models.Drafted, model=cfg.student, steps=steps, form=form)
    draft = fdl.Config(losses.Draft, loss=fdl.Config(losses.CrossEntropy), steps=steps)
    cfg.losses.append(
        fdl.Config(losses.LossTerm, name="draft", loss=draft, weight=weight)
    )
    length = fdl.Config(losses.AcceptedLength, steps=steps)
    cfg.evaluations[0].metrics = [
        *(fdl.Config(losses.Acceptance, step=j + 1) for j in range(steps)),
        length,
    ]


def drafter(cfg: fdl.Config, of: str, steps: int = 2):
    """--fiddler='drafter("DIR")': a draft of a run's tokens, which stays as it is.

    One layer, run again over its own states, learns the run's distribution (EAGLE-3).
    """
    drafts(cfg, form="recurrent", steps=steps, weight=1.0)
    cfg.student.of, cfg.student.states = [0, 2, 3], "constant"
    cfg.losses[-1].loss.loss = fdl.Config(losses.ForwardKL)
    cfg.losses[0].weight = 0.0
    cfg.trainable = ["draft/*"]
    cfg.start = fdl.Config(
        runner.starts.Only,
        start=fdl.Config(runner.starts.Run, workdir=of),
        parameters=["embedding", "blocks/*", "norm/*", "output"],
    )


def width(cfg: fdl.Config, dim: int, base_dim: int = 192):
    """--fiddler='width(384)': another width at the rates of `base_dim` (muP).

    With layer norms of queries and keys, and a decay of its own.
    """
    head_dim = dim // cfg.student.num_heads
    cfg.student.dim, cfg.student.qk_norm = dim, "layer"
    cfg.student.attention_scale = 1 / head_dim
    cfg.student.head_init = fdl.Config(models.Normal, stddev=0.02 * base_dim / dim)
    cfg.optimizer.weight_decay = 0.0
    rules = {
        "width": fdl.Config(runner.step_rules.ByWidth, base_dim=base_dim),
        "decay": fdl.Config(runner.step_rules.IndependentDecay),
    }
    cfg.optimizer = fdl.Config(
        runner.step_rules.ruled, optimizer=cfg.optimizer, rules=rules
    )
    cfg.evaluations[0].metrics = [fdl.Config(runner.LargestAttentionLogit)]


def without_norms(
    cfg: fdl.Config, first: int = 600, gap: int = 40, spread: float = 0.0
):
    """--fiddler=without_norms: norms become linear, one every `gap` steps.

    With `spread`, first positions have constants of their own for as long again, and
    the spread of norms before the last one is a term of that weight.
    """
    cfg.student.norm = "layer"
    last = cfg.student.num_layers - 1
    cfg.student = fdl.Partial(
        models.NormRemoval, model=cfg.student, first=first, gap=gap
    )
    if spread:
        cfg.student.first_apart = 2 * gap
        loss = fdl.Config(losses.NormSpread, layer=last)
        term = fdl.Config(losses.LossTerm, name="spread", loss=loss, weight=spread)
        cfg.losses.append(term)
