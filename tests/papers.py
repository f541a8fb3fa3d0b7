"""Papers on training losses, and what of each is here: tables of docs/papers.md.

python -m tests.papers            # print them
python -m tests.papers --write    # and put them into docs/papers.md

Each expression builds as it stands (`tests/papers_test.py`).
"""

import sys
from pathlib import Path
from typing import Literal, NamedTuple

from tests.drawn import Drawn
from tests.papers_measured import MEASURED

PLACE = Drawn(
    Path(__file__).parents[1] / "docs" / "papers.md",
    begin="<!-- papers: `python -m tests.papers --write` -->",
    end="<!-- end of papers -->",
)
NOTE = (
    "Points are of held-out accuracy over the same small student on labels alone, in "
    "[one sweep](results.md#under-each-loss): three seeds, 95 % intervals, no weight "
    "tuned. Other figures say where they stand."
)


class Paper(NamedTuple):
    """A paper, and what it is here.

    Attributes:
      identifier: of arXiv.
      title: short.
      here: all of what it trains with, a part of it, or nothing.
      graph: expressions of a graph, as Python.
      note: what is missing, or what the expressions are.
    """

    identifier: str
    title: str
    here: Literal["yes", "part", "no"]
    graph: tuple[str, ...] = ()
    note: str = ""


PAPERS = (
    Paper(
        "2411.08937",
        "Dual-head KD",
        "yes",
        (
            "functools.partial(models.SecondHead, model=functools.partial("
            "models.ConvNet, num_classes=10), ghost=64)",
            "losses.OnSecondHead(loss=losses.BinaryKLNorm(temperature=2.0, "
            "scale_by_temperature_squared=True))",
            "losses.OwnHead(loss=losses.BinaryKLNorm(temperature=2.0), dim=64, "
            "num_outputs=10, rngs=nnx.Rngs(0))",
            'losses.LossTerm(name="ce", loss=losses.CrossEntropy(), '
            'weight=losses.Unopposed(of="kd", over="parameters"))',
        ),
        "its nonlinear head, of classifiers, the loss on it; its linear head, of any "
        "model; the projection of the KD gradient: "
        "`configs/papers.py --fiddler=two_heads`",
    ),
    Paper(
        "2604.00626",
        "On-policy distillation, a survey",
        "yes",
        (
            "losses.ReverseKL()",
            "losses.AlphaDivergence(order=0.5)",
            "losses.AlphaDivergence(order=2.0)",
            "losses.AlphaDivergence(order=-1.0)",
            "losses.AdaptiveKL()",
            "losses.ToDi()",
            "losses.TeacherUnsure(entropy=1.0)",
            "losses.Scheduled(loss=losses.Interpolated(loss=losses.ForwardKL()), "
            'field="share", schedule=optax.linear_schedule(0.4, 1.0, 1000))',
            "losses.TAID(loss=losses.ForwardKL(), num_steps=1000)",
            "losses.SampledReverseKL()",
        ),
        "orders 2 and -1 are half of Pearson's and of Neyman's χ²; student rows are "
        "`runner.data.OnPolicy`",
    ),
    Paper(
        "1604.08859",
        "The Z-loss",
        "yes",
        ("losses.StandardScore(sharpness=1.0, location=0.0)",),
        "its output layer of O(d²) an update is left out",
    ),
    Paper(
        "2412.08424",
        "From logistic regression to the perceptron",
        "yes",
        (
            'losses.LossTerm(name="error", loss=losses.CompSum(tau=2.0), weight=0.0)',
            'losses.LossTerm(name="ce", loss=losses.CrossEntropy(), '
            'weight=losses.Reciprocal(of="error"))',
        ),
        "with `optax.sgd(gamma)`; 2, 2, 16 and 157 steps at γ = 100, 10, 1, 0.1, "
        "and 308 plain, as published",
    ),
    Paper(
        "2403.01427",
        "Logit standardization in KD",
        "yes",
        (
            "losses.Standardized(loss=losses.ForwardKL(temperature=2.0, "
            "scale_by_temperature_squared=True))",
        ),
        "`ddof=1` is the authors' code",
    ),
    Paper(
        "2401.11081",
        "Learning from aggregate responses",
        "yes",
        ('losses.BagLoss(column="bag", num_bags=100, instance_weight=0.1)',),
        "of classes; the bags are a column (`runner.data.Columns`)",
    ),
    Paper(
        "2511.08322",
        "Negative flips, margin-preserving training",
        "yes",
        (
            "losses.ClassBias(loss=losses.CrossEntropy(), first=5, bias=1.0)",
            'losses.LossTerm(name="old", loss=losses.OfTeacher(teacher="old", '
            "classes=5, loss=losses.ForwardKL(temperature=5.0)), "
            'token_weight=losses.TeacherCorrect(teacher="old"))',
            'losses.LossTerm(name="new", loss=losses.OfTeacher(teacher="new", '
            "loss=losses.ForwardKL(temperature=5.0)), "
            'token_weight=losses.TeacherCorrect(teacher="new"))',
            'losses.OfTeacher(loss=losses.NegativeFlip(), teacher="old")',
            "losses.PositiveFlip()",
        ),
        'with `runner.NamedTeachers(teachers={"old": ..., "new": ...})`; `LogitMSE` '
        "inside, weight 0.2, is its form of squares",
    ),
    Paper(
        "2404.08958",
        "AMU-Tuning",
        "yes",
        (
            "losses.WithPrior(loss=losses.CrossEntropy(), scale=0.5, power=0.4)",
            "losses.Standardized(loss=losses.CrossEntropy(), ddof=1)",
            "losses.WithPrior(loss=losses.ZeroOne())",
            "runner.starts.ClassSums()",
        ),
        "two terms, weights 0.35 and 0.65, a metric, and the start of the probe; the "
        "prior is the teacher, a model or records: `configs/vision_digits.py "
        '--fiddler=\'prior("DIR", trunk="DIR")\'`, measured there',
    ),
    Paper(
        "2302.02334",
        "Discriminative against generative classifiers",
        "yes",
        (
            "runner.starts.NaiveBayes(smoothing=0.1)",
            "functools.partial(models.BiasedHead, model=functools.partial("
            "models.ConvNet, num_classes=10))",
        ),
        "logistic regression that begins as naive Bayes of the trunk's features: "
        "`configs/vision_digits.py --fiddler='head(\"DIR\", naive_bayes=True)'`, "
        "measured there",
    ),
    Paper(
        "2301.12942",
        "Refined regret",
        "no",
        (),
        "theory of regret: it trains with no loss",
    ),
    Paper(
        "2501.13341",
        "Multi-aspect KD",
        "yes",
        (
            'losses.OwnHead(loss=losses.Aspects(column="aspects"), dim=64, '
            "num_outputs=50, rngs=nnx.Rngs(0))",
        ),
        "weight 4; the answers are a column (`runner.data.Columns`) that a language "
        "model made elsewhere",
    ),
    Paper(
        "2507.02559",
        "Removal of LayerNorm",
        "yes",
        (
            "functools.partial(models.NormRemoval, model=functools.partial("
            'models.Transformer, vocab_size=4096, norm="layer"), first=600, gap=40, '
            "first_apart=80, end_apart=40, end=0)",
            "losses.NormSpread(layer=3, end=0)",
        ),
        "`configs/dense.py --fiddler=without_norms`; one norm serves queries, keys and "
        "values, which it turns apart",
    ),
    Paper(
        "2402.06827",
        "RAMP",
        "yes",
        (
            'losses.WorstView(loss=losses.CrossEntropy(), views=("linf", "l1"))',
            'losses.LogitPairing(first="linf", second="l1")',
            'models.Ascent(radius=2.5, norm="l1", sizes="adaptive")',
            "runner.step_rules.natural_merge(optax.sgd(0.1), steps=22, share=0.5)",
            "losses.Turn(steps=22, turn=1)",
        ),
        "with `models.Views`, measured by `configs/vision_digits.py --sweep=attacks`, "
        "there with fixed steps; the last two merge natural and adversarial epochs: "
        "`--fiddler=merged`",
    ),
    Paper(
        "2304.07288",
        "Comp-sum losses",
        "yes",
        (
            "losses.CompSum(tau=1.7)",
            "losses.CompSum(tau=1.0, margin=1.0)",
            'losses.MarginShift(view="attack")',
            'models.Ascent(radius=0.12, objective="margins")',
        ),
        "the smooth adversarial form is the sum of the second and third over "
        "`models.Views`: `configs/vision_digits.py --sweep=attacks`",
    ),
    Paper(
        "2506.12542", "Plackett-Luce distillation", "yes", ("losses.PlackettLuce()",)
    ),
    Paper(
        "2503.06991",
        "Are we truly forgetting?",
        "yes",
        (
            "losses.CKA(layers=((0, 0),))",
            "losses.NeighborAccuracy(neighbors=5)",
        ),
        "metrics of an evaluation: the other model its teacher; k-NN transfer on its "
        "data, each row beside all others",
    ),
    Paper(
        "2507.06187",
        "Delta learning",
        "yes",
        ('losses.DPO(beta=5.0, over="mean")',),
        "over `runner.data.PreferencePairs`",
    ),
    Paper(
        "2406.08607",
        "Unlearning from logit difference",
        "yes",
        (
            'losses.LossTerm(name="forget", loss=losses.CrossEntropy(), '
            'mask=losses.ColumnMask(column="forget"))',
            'losses.LossTerm(name="retain", loss=losses.UniformKL(), weight=5.0, '
            'mask=losses.ColumnMask(column="forget", equals=False))',
        ),
        'an assistant: `configs/dense.py --fiddler=\'assistant("DIR", "FILE")\'`, all '
        "of its weights where there are adapters; then `runner-sample "
        "--assistant=DIR`, or `runner.UnlearnedTeacher`",
    ),
    Paper(
        "2406.15480",
        "Dynamic logits fusion",
        "yes",
        (),
        "`runner.DynamicTeacher(base, expert, antiexpert, experts=(...))`; its static "
        "form is `runner.FusedTeacher`",
    ),
    Paper(
        "2309.14322",
        "Small-scale proxies",
        "yes",
        (
            "losses.ZLoss()",
            "runner.step_rules.ByWidth(base_dim=192)",
            "runner.step_rules.IndependentDecay(decay=1e-4)",
            "runner.LargestAttentionLogit()",
        ),
        "rules of `runner.step_rules.ruled`; a metric; "
        '`models.Transformer(qk_norm="layer")`; `--sweep=lr` and its sensitivity; '
        "`configs/dense.py --fiddler='width(384)'` has all of them; not measured: it "
        "shows at scale",
    ),
    Paper(
        "2306.12442",
        "Token relationship graphs",
        "yes",
        (
            'losses.TokenContext(layers=((1, 1),), of="patches")',
            'losses.TokenGraph(layers=((1, 1),), of="patches")',
            "losses.TokenContrast(layers=((1, 1),), student_dim=16, teacher_dim=64, "
            'of="patches", temperature=optax.linear_schedule(0.5, 0.1, 1000), '
            "rngs=nnx.Rngs(0))",
        ),
        'tokens of texts are `of="hidden"`; tokens of all devices and microbatches are '
        "compared; no code was released",
    ),
    Paper(
        "2310.08069",
        "Soft-InfoNCE",
        "yes",
        ("losses.InfoNCE(temperature=1.0, alpha=1.0)",),
        "negatives of the global batch; similarities are those of a teacher",
    ),
    Paper(
        "2510.04910",
        "Glocal-IB",
        "yes",
        (
            "functools.partial(models.Views, model=functools.partial("
            "models.Imputer, channels=7, num_steps=96), "
            'views={"part": models.Hidden(share=0.2)})',
            'losses.ValueDistance(view="part", over="observed", power=2, '
            'path="drawn/logits")',
            'losses.ValueDistance(view="part", over="hidden", power=2, '
            'path="drawn/logits")',
            'losses.PriorKL(view="part")',
            'losses.ViewAlignment(view="part", dim=16, of="latent/mean", '
            "rngs=nnx.Rngs(0))",
            'losses.ViewContrast(view="part", dim=16, of="latent/mean", '
            "rngs=nnx.Rngs(0))",
            'losses.StepContrast(view="part", dim=16, of="latent/mean", '
            "rngs=nnx.Rngs(0))",
        ),
        "weights 1, 1, 1e-6, and 0.5 of one of the last three, among rows or among the "
        "moments of a row, as its code has it; series are `runner.data.SeriesFile`: "
        "`configs/series/imputation.py`; views of images and texts have it too",
    ),
    Paper(
        "2406.15941",
        "Exact inductive bias",
        "yes",
        ("runner.sweeps.inductive_bias",),
        '`inductive_bias(runner.sweeps.load("runs/seeds"), error=0.05)`, over the '
        "units of a sweep as its hypotheses",
    ),
    Paper(
        "2411.09009",
        "Cut cross-entropy",
        "yes",
        (),
        "the head by blocks and tiles; `Experiment(gradient_filter=2**-12)`",
    ),
    Paper(
        "2405.14745",
        "AnyLoss",
        "yes",
        ('losses.AnyLoss(metric="f_beta", positive=1)',),
        "over the global batch, exact however it is cut",
    ),
    Paper(
        "2509.25795",
        "Groups in depression detection",
        "yes",
        (
            'losses.OverGroups(loss=losses.CrossEntropy(), column="group", '
            'num_groups=2, rule="worst")',
            'losses.GroupDRO(column="group", num_groups=2)',
        ),
        "`rule` is also a spread, a variance or a deviation",
    ),
    Paper(
        "2505.10202",
        "VQ-Logits",
        "yes",
        (
            "functools.partial(models.VQHead, model=functools.partial("
            "models.Transformer, vocab_size=4096), num_codes=1024, bias=True)",
        ),
        "a fixed mapping, `mapping=` a file or ids modulo K; `configs/dense.py "
        "--fiddler='code_book(1024)'`; not measured: ten classes need no codes",
    ),
    Paper(
        "2601.04992",
        "GLOW",
        "yes",
        ("losses.LearningProgress(num_rows=1000)",),
        "a `token_weight`; its table is in the train state",
    ),
    Paper(
        "2505.13893",
        "InfiGFusion",
        "yes",
        (
            "losses.LogitGraph(best=10)",
            'losses.LogitGraph(best=10, scores="logits")',
            "losses.SortedLogits(best=10)",
        ),
        "a term each; of several teachers they are summed by `losses.OfTeacher` over "
        "`runner.NamedTeachers`; any vocabulary, no code was released",
    ),
    Paper(
        "2504.20571",
        "One training example (RLVR)",
        "yes",
        (
            'losses.PolicyGradient(reward=losses.SaysAnswer(column="answer"))',
            'losses.LossTerm(name="kl", loss=losses.SampledReverseKL(estimator="k3"), '
            "weight=1e-3)",
            'losses.LossTerm(name="entropy", loss=losses.ConfidencePenalty(), '
            "weight=1e-3, "
            "mask=losses.own_mask)",
        ),
        "over `runner.data.OnPolicy(group=8)`, the reference is `runner.StartTeacher`; "
        "any function of a batch is a reward; not measured: it shows at scale",
    ),
    Paper(
        "2203.05482",
        "Model soups",
        "yes",
        ("runner.Soup",),
        '`--fiddler=\'soup("runs/sweep")\'`, greedy, uniform, `rule="learned"` or '
        '`"learned_by_layer"`',
    ),
    Paper(
        "2603.13552",
        "Ghosts of softmax",
        "yes",
        ("runner.step_rules.ConvergenceRadius(largest=1.0, rows=8)",),
        "`runner.step_rules.ruled(optimizer, {...})`, measured with "
        "`configs/vision_digits.py --sweep=spike`; no radii of attention and gates",
    ),
    Paper(
        "1911.02855",
        "Dice loss",
        "yes",
        ("losses.Dice(focus=0.01)", 'losses.AnyLoss(metric="f_beta", sharpness=None)'),
        "a token; a batch",
    ),
    Paper(
        "2502.06733",
        "Dynamic sample reweighting",
        "yes",
        ('losses.RelativeLoss(form="upper")',),
        "a `token_weight`",
    ),
    Paper(
        "2508.02668",
        "LOST",
        "yes",
        (
            "functools.partial(models.LOST, model=functools.partial("
            "models.Transformer, vocab_size=4096), rank=26)",
            "functools.partial(models.LOST, model=functools.partial("
            'models.Transformer, vocab_size=4096), rank=26, activation="silu")',
        ),
        "without and with an activation between the factors",
    ),
    Paper(
        "2506.21551",
        "Grokking pathways",
        "yes",
        ("losses.RouteDistance(mass=0.7)", "losses.RouteConsistency()"),
        "metrics of an evaluation",
    ),
    Paper(
        "2303.13005",
        "NKD, USKD",
        "yes",
        (
            "losses.NormalizedKD(temperature=1.0, non_target_weight=1.5)",
            'losses.USKD(of="hidden/0", dim=8, num_outputs=10, rngs=nnx.Rngs(0))',
        ),
        "the second has no teacher, and no cross-entropy beside it; measured in "
        "`configs/vision_digits.py`",
    ),
    Paper(
        "1705.08741",
        "Train longer, generalize better",
        "yes",
        (
            "functools.partial(models.ConvNet, num_classes=10, "
            "norm=functools.partial(models.BatchNorm, ghost=32))",
            "runner.step_rules.WeightDistance()",
        ),
        "`configs/vision_digits.py --sweep=large_batches`, three seeds: as many steps "
        "close the gap of large batches, the rate by the root of the batch narrows it, "
        "ghosts show nothing there",
    ),
    Paper(
        "2410.13828",
        "Gradient entanglement",
        "yes",
        (
            'losses.LossTerm(name="chosen", weight=0.0, '
            'loss=losses.CompletionLogProbability(of="chosen"))',
            'losses.LossTerm(name="rejected", weight=0.0, '
            'loss=losses.CompletionLogProbability(of="rejected"))',
        ),
        "with `--gin.diagnostics.every=100`: norms and cosine of both gradients; of "
        "plain gradient descent",
    ),
    Paper(
        "2512.22170",
        "SoliReward",
        "yes",
        ('losses.BradleyTerry(margin=3.0, tie="tie")',),
        "an indifferent pair costs 2 log(1 + e³) at least; rewards are the policy's",
    ),
    Paper(
        "2503.02832",
        "AlignDistil",
        "yes",
        (
            'losses.LossTerm(name="align", loss=losses.ReverseKL(), '
            "token_weight=losses.TeacherContrast(scale=0.1))",
        ),
        "with `runner.ContrastedTeacher(expert, reverse)`; `runner.FusedTeacher` is "
        "the form of its theorem; on-policy rows are `runner.data.OnPolicy`",
    ),
    Paper(
        "2308.09878",
        "DatasetEquity",
        "yes",
        ('losses.RowTable(path="weights.npy", num_rows=1000)',),
        "a `token_weight`; the clustering that makes the table is yours",
    ),
    Paper(
        "2604.11576",
        "AdvFLYP",
        "yes",
        (
            'losses.ImageTextContrast(view="attack")',
            'losses.ImageTextKL(view="attack", beside="teacher/image")',
            'losses.ImageTextKL(view="attack")',
            'losses.FeatureShift(view="attack", of="image", beside="teacher/image")',
            'losses.FeatureShift(view="attack", of="image")',
            "models.Ascent(radius=1 / 255, step=1 / 255, steps=2, "
            'objective="captions", group=256)',
            'runner.ViewTeacher(teacher=runner.StartTeacher(), view="attack")',
        ),
        "with `models.Views` around a `models.TwoTowers`, the image tower trained "
        "alone: `configs/vision_digits.py --fiddler=captioned "
        "--fiddler='as_pretrained(\"DIR\")' --sweep=regularizers`",
    ),
    Paper(
        "2502.00348",
        "Denoised implicit feedback",
        "yes",
        (
            "losses.OneCandidate(loss=losses.BPR(), temperature=0.1, after=200)",
            'losses.RecallAt(best=20, excluded="seen")',
            'losses.NDCGAt(best=20, excluded="seen")',
            "functools.partial(models.MatrixFactorization, num_users=400, "
            "num_items=300)",
            'runner.data.Interactions(file="clicks.csv", candidates=5)',
            'losses.Resampled(column="user", num_groups=100)',
        ),
        "a row is five candidates of a user and an item that it did not choose; the "
        "last is the mean of the draws over the rows of a user in a batch, of any "
        "data: `configs/papers.py --sweep=resampling`",
    ),
)

BEYOND = (
    Paper(
        "2503.01840",
        "EAGLE-3",
        "yes",
        (
            "functools.partial(models.Drafted, model=functools.partial("
            "models.Transformer, vocab_size=4096), steps=3, of=(0, 2, 3), "
            'states="constant")',
            "losses.Draft(loss=losses.ForwardKL(), steps=3, decay=0.8)",
            "losses.Acceptance(step=1)",
            "losses.AcceptedLength(steps=3)",
        ),
        "fused states, a decoder layer, its training-time test; the target is frozen "
        'by `Experiment(trainable=["draft/*"])`; its head is the target\'s, over all '
        "tokens; text, a run of 120 steps, two steps ahead learned in 60: of the first "
        "79.2 ± 0.1 % accepted, of the second 79.1 ± 0.1, untrained 32.3 ± 1.2 and "
        "32.4 ± 0.2, so 1.42 tokens of 2 for 0.43 (`configs/dense.py "
        "--fiddler='drafter(\"DIR\")'`)",
    ),
    Paper(
        "2404.19737",
        "Multi-token prediction",
        "yes",
        (
            "functools.partial(models.Drafted, model=functools.partial("
            'models.Transformer, vocab_size=4096), steps=3, form="parallel")',
            "functools.partial(models.Drafted, model=functools.partial("
            'models.Transformer, vocab_size=4096), steps=3, form="sequential")',
            "losses.Draft(loss=losses.CrossEntropy(), steps=3)",
        ),
        "the second is DeepSeek-V3's form (2412.19437): text, 120 steps, two tokens "
        "further at a weight of 0.3: 74.4 ± 0.4 % of the first accepted, 74.8 ± 0.6 of "
        "the second, 1.30 tokens of 2, and the student itself is +0.04 (0.03 to 0.04) "
        "nats/token behind one without (`configs/dense.py --fiddler=drafts`)",
    ),
    Paper(
        "1712.05877",
        "Quantization-aware training",
        "yes",
        (
            "functools.partial(models.Quantized, model=functools.partial("
            'models.Transformer, vocab_size=4096), weights="int4", block=32)',
        ),
        "of kernels: int8, int4, fp8, as qwix has them; `configs/dense.py "
        "--fiddler='quantized(\"int4\", block=32)'`; activations stay as they are; "
        "text, 120 steps, three seeds: int4 with one scale an output +0.003 (0.002 to "
        "0.004) nats/token of 5.66; one seed, 200 steps: 5.239 with blocks of 32, "
        "5.240 without, 5.240 rounded after",
    ),
    Paper(
        "2505.04560",
        "ABKD",
        "yes",
        ("losses.AlphaBetaDivergence(alpha=0.9, beta=0.2)",),
    ),
    Paper(
        "1907.09682",
        "Similarity-preserving KD",
        "yes",
        ("losses.SimilarityPreserving(layers=((1, 1),))",),
    ),
    Paper(
        "1904.05068",
        "RKD",
        "yes",
        (
            "losses.RelationalDistance(layers=((1, 1),))",
            "losses.RelationalAngle(layers=((1, 1),))",
        ),
        "weights 25 and 50",
    ),
    Paper(
        "1803.10837", "PKT", "yes", ("losses.ProbabilisticTransfer(layers=((1, 1),))",)
    ),
    Paper(
        "1803.05407",
        "Stochastic weight averaging",
        "yes",
        ("runner.averages.MeanFrom(first=750, every=10)",),
        "`runner.averages.averaged(optimizer, {...})`, evaluated beside the weights",
    ),
    Paper(
        "2209.14981",
        "LAWA",
        "yes",
        ("runner.averages.MeanOfLast(count=5, every=100)",),
        "the same",
    ),
    Paper(
        "1911.08731",
        "Group DRO",
        "yes",
        ('losses.GroupDRO(column="group", num_groups=2)',),
    ),
    Paper(
        "2101.06983",
        "GradCache",
        "yes",
        ("losses.InfoNCE()",),
        "any `losses.OfRows`, under accumulation; no array of all pairs of rows",
    ),
    Paper(
        "2402.12030",
        "Universal logit distillation",
        "yes",
        ("losses.ULD()",),
    ),
    Paper(
        "2503.20083",
        "Approximate likelihood matching",
        "yes",
        (
            "losses.SpanLikelihood(temperature=100.0)",
            'losses.SpanLikelihood(temperature=1000.0, divergence="total_variation")',
            'losses.SpanLikelihood(divergence="renyi", order=0.5)',
            'losses.LossTerm(name="spans", weight=losses.UnitGradient(), '
            "loss=losses.SpanLikelihood(temperature=100.0))",
        ),
        "over spans of `runner.Aligned`; gradients are balanced in the trunk's outputs",
    ),
    Paper(
        "2412.19437",
        "DeepSeek-V3's balance",
        "yes",
        ('losses.SequenceLoadBalance(scores="sigmoid", layers="sum")',),
    ),
)
"""Papers that are on no list, and are here."""


def row(paper: Paper) -> str:
    """Return the row of a paper in Markdown."""
    graph = ", ".join(f"`{text}`" for text in paper.graph).replace("|", "\\|")
    return (
        f"| {paper.title}, {paper.identifier} | {paper.here} | {graph} | {paper.note} |"
    )


def draw() -> str:
    """Return both tables, what is here first."""
    order = ("yes", "part", "no")
    head = ["| paper | here | in a graph | |", "|---|---|---|---|"]
    rows = [row(x) for here in order for x in PAPERS if x.here == here]
    beside = ["", "Beside these:", "", *head, *map(row, BEYOND)]
    return "\n".join([*head, *rows, *beside, "", *measured()])


def measured() -> list[str]:
    """Return the lines of the last table: what was measured of each paper."""
    ordered = [x for here in ("yes", "part", "no") for x in PAPERS if x.here == here]
    rows = [f"| {x.title} | {MEASURED[x.identifier]} |" for x in ordered]
    return [
        "## What was measured",
        "",
        NOTE,
        "",
        "| paper | here |",
        "|---|---|",
        *rows,
    ]


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PLACE.write(draw())
    print(draw())
