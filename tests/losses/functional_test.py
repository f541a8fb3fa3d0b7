"""Each loss class equals its function of `losses.functional` on the same arrays."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import losses
from losses import functional
from losses.core.outputs import zero_outside
from losses.preference.candidates import noise
from tests.losses import table
from tests.losses.table import LOSSES, arrays


def both(x):
    return x["logits"], x["teacher/logits"]


def hidden(x):
    return x["hidden/0"], x["teacher/hidden/1"]


def routing(x):
    return x["router_logits"], x["router_assignments"], x["mask"]


def projected(x):
    loss = LOSSES["projected"].loss
    assert isinstance(loss, losses.Projected)
    kernel = loss.projections["hidden_0"][...]
    return functional.feature_mse(
        functional.project(x["hidden/0"], kernel), x["teacher/hidden/1"]
    )


def standardized(x):
    student, teacher = (functional.standardize(logits) for logits in both(x))
    return functional.forward_kl(student, teacher, 2.0)


def own_head(x):
    head = LOSSES["own_head"].loss
    assert isinstance(head, losses.OwnHead) and head.first is not None
    logits = functional.own_head_logits(
        x["trunk"], head.last.arrays(), head.first.arrays()
    )
    return functional.forward_kl(logits, x["teacher/logits"])


def draft(x):
    values = functional.cross_entropy(x["head/draft/1"], x["targets"])
    return jnp.where(x["positions"] >= 1, values, 0.0)


def acceptance(x):
    return functional.acceptance(x["head/draft/1"], x["teacher/logits"])


def accepted_length(x):
    counted = x["mask"][..., None]
    target = jnp.where(counted, x["teacher/logits"], 0.0)
    drafts = [jnp.where(counted, x[f"head/draft/{j}"], 0.0) for j in (1, 2)]
    rates = jnp.stack([functional.acceptance(d, target) for d in drafts])
    return functional.accepted_length(rates)


def from_samples(x):
    log_p = jax.nn.log_softmax(x["teacher/logits"])
    entropy = -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)
    return functional.forward_kl_from_samples(x["logits"], x["draws"], entropy)


def of_rows(x, over="sum"):
    """Log-probabilities of both segments: the student's, and the teacher's."""
    sides = []
    for logits in both(x):
        log_q = jax.nn.log_softmax(logits.astype(jnp.float32))
        log_q = jnp.take_along_axis(log_q, x["targets"][..., None], axis=-1)[..., 0]
        for segment in (1, 2):
            inside = x["mask"] & (x["segment_ids"] == segment)
            total = jnp.sum(jnp.where(inside, log_q, 0.0), axis=1)
            count = jnp.maximum(jnp.sum(inside, axis=1, dtype=jnp.float32), 1.0)
            sides.append(total if over == "sum" else total / count)
    return sides


def of_spans(x):
    """The student's sums over the spans of the table, of pairs of neighbors."""
    log_q = jax.nn.log_softmax(x["logits"].astype(jnp.float32))
    log_q = jnp.take_along_axis(log_q, x["targets"][..., None], axis=-1)[..., 0]
    log_q = jnp.where(x["mask"], log_q, 0.0)
    first, second = log_q[:, ::2], jnp.pad(log_q[:, 1::2], ((0, 0), (0, 1)))
    before = jnp.where(jnp.arange(first.shape[1])[None] < 2, first, 0.0)
    return (jnp.repeat(y, 2, axis=1)[:, :-1] for y in (first + second, before))


def span_likelihood(x):
    log_q, _ = of_spans(x)
    log_p = x["teacher/spans/log_probability"]
    return functional.span_likelihood(log_q, log_p, 2.0)


def at_ends(values):
    """The value at the last token of each span."""
    last = jnp.minimum(jnp.arange(values.shape[1]) // 2 * 2 + 1, values.shape[1] - 1)
    return values[:, last]


def by_rank(function, x, *teacher, **options):
    _, before = of_spans(x)
    # A span may end with a token that does not count: there, all is zero.
    teacher_before = x["teacher/spans/log_probability_before"]
    logits, teacher, teacher_before = zero_outside(
        (x["logits"], teacher, teacher_before), x["mask"]
    )
    values = function(
        logits,
        *teacher,
        student_log_before=before,
        teacher_log_before=teacher_before,
        **options,
    )
    return at_ends(values)


def sides_of_spans(x):
    return x["teacher/spans/shared_logits"], x["teacher/spans/other_logits"]


def along_rows(values):
    return jnp.broadcast_to(values[:, None], table.SHAPE)


def bradley_terry(x):
    chosen, rejected, reference_chosen, reference_rejected = of_rows(x)
    difference = (chosen - reference_chosen) - (rejected - reference_rejected)
    values = functional.bradley_terry(0.1 * difference, x["tie"], margin=1.0)
    return along_rows(values)


def pooled(x, path, inside=True):
    """The mean over the counted tokens of each row, and which rows have any."""
    counts = x["mask"] & inside
    weights = counts.astype(jnp.float32)
    total = jnp.sum(x[path].astype(jnp.float32) * weights[..., None], axis=1)
    count = jnp.sum(weights, axis=1)
    return total / jnp.maximum(count, 1.0)[:, None], count > 0.0


def of_layers(function):
    def relation(x):
        student, there = pooled(x, "hidden/0")
        return function(student, pooled(x, "teacher/hidden/1")[0], there)

    return relation


def tokens_of(x, student):
    """All tokens of the batch, and which of them count."""
    teacher = x["teacher/hidden/1"]
    flat = [y.reshape(-1, y.shape[-1]) for y in (student, teacher)]
    return flat[0], flat[1], x["mask"].reshape(-1)


def token_contrast(x):
    loss = LOSSES["token_contrast"].loss
    assert isinstance(loss, losses.TokenContrast)
    kernel = loss.projections["layer_0"][...]
    student = functional.project(x["hidden/0"], kernel)
    return functional.token_contrast(*tokens_of(x, student), temperature=0.5)


def token_context(x):
    segments = x["segment_ids"]
    visible = segments[:, :, None] == segments[:, None, :]
    return functional.token_context(*hidden(x), visible & x["mask"][:, None, :])


def info_nce(x, alpha):
    sides = [x["segment_ids"] == segment for segment in (1, 2)]
    (queries, first), (keys, second) = (pooled(x, "trunk", side) for side in sides)
    similar = tuple(pooled(x, "teacher/trunk", side)[0] for side in sides)
    return functional.info_nce(
        queries, keys, first & second, temperature=2.0, similar=similar, alpha=alpha
    )


def image_text(x, function, *others, **fields):
    images, there = pooled(x, "view/a/trunk")
    rows = [pooled(x, path)[0] for path in others]
    return function(images, *rows, there, **fields)


def one_candidate(x):
    values = F.cross_entropy(x["logits"], x["targets"])
    rows = jnp.arange(len(values), dtype=jnp.int32)
    draws = noise(None, 0, rows, values.shape[1])
    return values * F.one_candidate(values, x["mask"], draws, scale=10.0)


def policy_gradient(x):
    log_q = -functional.cross_entropy(x["logits"], x["targets"])
    rewards = jnp.pad(x["targets"][:, 0], (0, 1)).astype(jnp.float32)
    there = jnp.pad(jnp.any(x["mask"], axis=1), (0, 1))
    advantages = functional.group_advantages(rewards, there, group=2)[: len(log_q)]
    wide = jnp.broadcast_to(advantages[:, None], log_q.shape)
    return functional.clipped_policy_gradient(log_q, wide, x["drawn"])


def flips(x, student):
    """1 where `student`, or else the teacher, alone predicts the target."""
    right = [jnp.argmax(logits, axis=-1) == x["targets"] for logits in both(x)]
    ours, theirs = right if student else reversed(right)
    return (ours & ~theirs).astype(jnp.float32)


def kto(x):
    completion, other, reference, reference_other = of_rows(x)
    counts = jnp.sum(
        x["mask"], axis=1, dtype=jnp.float32
    )  # the rows of the table count their tokens
    gap = jnp.sum(counts * (other - reference_other)) / jnp.sum(counts)
    return along_rows(
        functional.kto(
            completion,
            reference,
            x["desirable"],
            jnp.maximum(gap, 0.0),
            undesirable_weight=1.5,
        )
    )


def uskd(x):
    owner = LOSSES["uskd"].loss
    assert isinstance(owner, losses.USKD)
    mask = x["mask"].astype(jnp.float32)
    q = jnp.exp(-functional.cross_entropy(x["logits"], x["targets"]))
    weak = functional.own_head_logits(
        x["trunk"].astype(jnp.float32), owner.weak.arrays()
    )
    square = jnp.sum(jnp.square(q) * mask) / jnp.sum(mask)
    return functional.uskd(
        x["logits"], weak, x["targets"], square, weights=(1.0, 0.1, 0.1)
    )


def row_means(x, values):
    """The mean of each row's counted tokens, its group, and whether it has any."""
    mask = x["mask"].astype(jnp.float32)
    count = jnp.sum(mask, axis=1)
    axes = "bt...,bt->b..."
    total = jnp.einsum(axes, values.astype(jnp.float32), mask)
    wide = jnp.maximum(count, 1.0).reshape(-1, *[1] * (total.ndim - 1))
    return total / wide, x["group"], count > 0.0


def route_distance(x):
    shares = jax.nn.softmax(x["router_logits"].astype(jnp.float32))
    means, _, there = row_means(x, shares)
    return functional.route_distance(means, there, mass=0.6)


def route_consistency(x):
    means, _, there = row_means(x, x["router_embedding"].astype(jnp.float32))
    return functional.route_consistency(means, there)


def logit_pairing(x):
    right = 1.0 - functional.zero_one(x["logits"], x["targets"])
    mask = x["mask"].astype(jnp.float32)
    share = jnp.sum(right * mask) / jnp.sum(mask)
    kl = functional.forward_kl(x["view/a/logits"], x["logits"])
    return right * kl / share


def view_sides(x, name):
    """The view's features through the projection that the loss owns; the batch's."""
    loss = LOSSES[name].loss
    assert isinstance(
        loss, losses.ViewAlignment | losses.ViewContrast | losses.StepContrast
    )
    ends = loss.last.arrays(), loss.first.arrays()
    return functional.own_head_logits(x["view/a/trunk"], *ends), x["trunk"]


def view_contrast(x):
    mask = x["mask"].astype(jnp.float32)[..., None]
    count = jnp.sum(mask, axis=1)
    means = (
        jnp.sum(side.astype(jnp.float32) * mask, axis=1) / jnp.maximum(count, 1.0)
        for side in view_sides(x, "view_contrast")
    )
    queries, keys = (
        side / jnp.linalg.norm(side, axis=-1, keepdims=True) for side in means
    )
    return functional.info_nce(queries, keys, count[:, 0] > 0.0, temperature=1.0)


F = functional


def value_distance(x):
    hidden = x["observed"] & ~x["view/a/observed"]
    counted = jnp.sum(x["mask"], dtype=jnp.float32)
    numbers = jnp.sum(hidden & x["mask"][..., None], dtype=jnp.float32) / counted
    return F.value_distance(x["view/a/logits"], x["values"], hidden, 2) / numbers


FUNCTIONS = {
    "cross_entropy": lambda x: F.cross_entropy(x["logits"], x["targets"]),
    "smoothed_cross_entropy": lambda x: F.smoothed_cross_entropy(
        x["logits"], x["targets"], epsilon=0.2
    ),
    "z_loss": lambda x: F.z_loss(x["logits"]),
    "comp_sum": lambda x: F.comp_sum(x["logits"], x["targets"], tau=1.5),
    "uniform_kl": lambda x: F.uniform_kl(x["logits"]),
    "standard_score": lambda x: F.standard_score(
        x["logits"], x["targets"], sharpness=2.0, location=0.5
    ),
    "dice": lambda x: F.dice(x["logits"], x["targets"], focus=0.5),
    "any_loss": lambda x: F.any_loss(
        x["logits"], x["targets"], x["mask"], metric="g_mean", positive=2, sharpness=9.0
    ),
    "over_groups": lambda x: F.over_groups(
        F.cross_entropy(x["logits"], x["targets"]),
        jnp.broadcast_to(x["group"][:, None], table.SHAPE),
        x["mask"],
        num_groups=2,
        rule="worst",
    ),
    "similarity_preserving": of_layers(F.similarity_preserving),
    "relational_distance": of_layers(F.relational_distance),
    "relational_angle": of_layers(F.relational_angle),
    "probabilistic_transfer": of_layers(F.probabilistic_transfer),
    "token_context": token_context,
    "token_graph": lambda x: F.token_graph(*tokens_of(x, x["hidden/0"]), neighbors=3),
    "token_contrast": token_contrast,
    "image_text_contrast": lambda x: image_text(
        x, F.image_text_contrast, "trunk", temperature=2.0
    ),
    "image_text_kl": lambda x: image_text(x, F.image_text_kl, "teacher/trunk", "trunk"),
    "info_nce": functools.partial(info_nce, alpha=0.0),
    "soft_info_nce": functools.partial(info_nce, alpha=0.5),
    "bag_loss": lambda x: F.bag_loss(
        x["logits"],
        x["targets"],
        x["bag"],
        x["mask"],
        num_bags=4,
        distance="cross_entropy",
    ),
    "class_bias": lambda x: F.cross_entropy(
        x["logits"].astype(jnp.float32).at[..., 3:6].add(1.0), x["targets"]
    ),
    "bpr": lambda x: F.bpr(
        *(
            jnp.take_along_axis(x["logits"], ids[..., None], axis=-1)[..., 0]
            for ids in (x["targets"], x["bag"])
        )
    ),
    "one_candidate": one_candidate,
    "recall_at": lambda x: jnp.float32(F.rank(x["logits"], x["targets"]) <= 2.0),
    "ndcg_at": lambda x: jnp.where(
        (rank := F.rank(x["logits"], x["targets"])) <= 3.0, 1 / jnp.log2(1 + rank), 0.0
    ),
    "negative_flip": lambda x: flips(x, student=False),
    "positive_flip": lambda x: flips(x, student=True),
    "confidence_penalty": lambda x: F.confidence_penalty(x["logits"]),
    "norm_spread": lambda x: F.norm_spread(
        x["hidden/0"], x["positions"] > 0, x["mask"]
    ),
    "router_z_loss": lambda x: F.router_z_loss(x["router_logits"]),
    "load_balance": lambda x: F.load_balance(*routing(x)),
    "load_balance_pooled": lambda x: F.load_balance(
        *routing(x), layers="pooled", scores="sigmoid"
    ),
    "sequence_load_balance": lambda x: F.sequence_load_balance(
        *routing(x), layers="sum"
    ),
    "router_distillation": lambda x: F.router_distillation(
        x["router_logits"], x["teacher/router_logits"], 2.0
    ),
    "feature_mse": lambda x: F.feature_mse(*hidden(x)),
    "feature_cosine": lambda x: F.feature_cosine(*hidden(x)),
    "projected": projected,
    "cka": lambda x: F.cka(*hidden(x), x["mask"]),
    "attention_kl": lambda x: F.attention_kl(
        x["attention/0"], x["teacher/attention/1"]
    ),
    "attention_mse": lambda x: F.attention_mse(
        x["attention/0"], x["teacher/attention/1"]
    ),
    "relations": lambda x: F.relations(
        x["queries/0"],
        x["teacher/queries/1"],
        x["segment_ids"],
        heads=3,
        mask=x["mask"],
    ),
    "logit_mse": lambda x: F.logit_mse(*both(x)),
    "binary_kl": lambda x: F.binary_kl(*both(x), 2.0),
    "binary_kl_norm": lambda x: F.binary_kl_norm(*both(x), 2.0),
    "forward_kl": lambda x: F.forward_kl(*both(x), 2.0),
    "forward_kl_draws": from_samples,
    "reverse_kl": lambda x: F.reverse_kl(*both(x)),
    "symmetric_kl": lambda x: F.symmetric_kl(*both(x), reverse_weight=0.3),
    "jensen_shannon": lambda x: F.jensen_shannon(*both(x), beta=0.3),
    "skew_forward_kl": lambda x: F.skew_forward_kl(*both(x)),
    "skew_reverse_kl": lambda x: F.skew_reverse_kl(*both(x)),
    "total_variation": lambda x: F.total_variation(*both(x)),
    "alpha_divergence": lambda x: F.alpha_divergence(*both(x), order=0.3),
    "alpha_divergence_of_two": lambda x: F.alpha_divergence(*both(x), order=2.0),
    "alpha_beta_divergence": lambda x: F.alpha_beta_divergence(
        *both(x), alpha=0.9, beta=0.3
    ),
    "logit_graph": lambda x: F.logit_graph(*both(x), x["mask"], best=3),
    "sorted_logits": lambda x: F.sorted_logits(*both(x), best=2),
    "of_teacher": lambda x: F.forward_kl(
        x["logits"][..., :5], x["teacher/old/logits"][..., :5]
    ),
    "renyi_divergence": lambda x: F.renyi_divergence(*both(x), order=2.0),
    "dpo": lambda x: along_rows(F.dpo(*of_rows(x), beta=0.3, label_smoothing=0.1)),
    "dpo_of_means": lambda x: along_rows(F.dpo(*of_rows(x, "mean"), beta=5.0)),
    "ipo": lambda x: along_rows(F.ipo(*of_rows(x, "mean"), beta=0.5)),
    "hinge_dpo": lambda x: along_rows(F.hinge_dpo(*of_rows(x))),
    "bradley_terry": bradley_terry,
    "simpo": lambda x: along_rows(F.simpo(*of_rows(x, "mean")[:2])),
    "odds_ratio": lambda x: along_rows(F.odds_ratio(*of_rows(x, "mean")[:2])),
    "pair_accuracy": lambda x: along_rows(F.pair_accuracy(*of_rows(x)[:2])),
    "reward_margin": lambda x: along_rows(F.reward_margin(*of_rows(x, "mean"))),
    "kto": kto,
    "adaptive_kl": lambda x: F.adaptive_kl(*both(x)),
    "todi": lambda x: F.todi(*both(x)),
    "span_likelihood": span_likelihood,
    "uld": lambda x: by_rank(F.uld, x, jnp.concatenate(sides_of_spans(x), axis=-1)),
    "hybrid_uld": lambda x: by_rank(F.hybrid_uld, x, *sides_of_spans(x), beta=0.3),
    "aligned_share": lambda x: jnp.ones(table.SHAPE),
    "decoupled_kd": lambda x: F.decoupled_kd(
        *both(x), x["targets"], non_target_weight=8.0
    ),
    "normalized_kd": lambda x: F.normalized_kd(
        *both(x), x["targets"], 2.0, non_target_weight=1.5
    ),
    "plackett_luce": lambda x: F.plackett_luce(*both(x), x["targets"], 2.0),
    "interpolated": lambda x: F.forward_kl(
        x["logits"],
        0.4 * x["logits"].astype(jnp.float32)
        + 0.6 * x["teacher/logits"].astype(jnp.float32),
    ),
    "taid": lambda x: F.forward_kl(
        x["logits"],
        0.4 * x["logits"].astype(jnp.float32)
        + 0.6 * x["teacher/logits"].astype(jnp.float32),
    ),
    "inter_class_correlation": lambda x: F.inter_class_correlation(*both(x), 2.0),
    "intra_class_correlation": lambda x: F.intra_class_correlation(*both(x), x["mask"]),
    "policy_gradient": policy_gradient,
    "minillm": lambda x: F.minillm(*both(x), x["targets"], x["mask"], long_term=0.0),
    "sampled_reverse_kl": lambda x: F.sampled_reverse_kl(
        *both(x), x["targets"], estimator="k3"
    ),
    "over_student_best": lambda x: F.over_student_best(*both(x), best=3),
    "agreement": lambda x: F.agreement(*both(x), measure="teacher_mass", best=3),
    "standardized": standardized,
    "with_prior": lambda x: F.cross_entropy(
        F.with_prior(*both(x), power=0.5), x["targets"]
    ),
    "scheduled": lambda x: F.forward_kl(*both(x), 2.0),
    "own_head": own_head,
    "draft": draft,
    "acceptance": acceptance,
    "accepted_length": accepted_length,
    "aspects": lambda x: F.aspects(x["logits"], x["aspects"]),
    "uskd": uskd,
    "logit_graph_raw": lambda x: F.logit_graph(
        *both(x), x["mask"], best=3, scores="logits"
    ),
    "neighbor_accuracy": lambda x: F.neighbor_accuracy(
        *row_means(x, x["hidden/0"]), neighbors=1
    ),
    "route_consistency": route_consistency,
    "route_distance": route_distance,
    "completion_log_probability": lambda x: along_rows(of_rows(x)[1]),
    "zero_one": lambda x: F.zero_one(x["logits"], x["targets"]),
    "on_second_head": lambda x: F.forward_kl(x["second/logits"], x["teacher/logits"]),
    "on_view": lambda x: F.cross_entropy(x["view/a/logits"], x["targets"]),
    "worst_view": lambda x: jnp.maximum(
        *(F.cross_entropy(x[p], x["targets"]) for p in ("logits", "view/a/logits"))
    ),
    "view_kl": lambda x: F.forward_kl(x["view/a/logits"], x["logits"]),
    "logit_pairing": logit_pairing,
    "margin_shift": lambda x: F.margin_shift(
        x["logits"], x["view/a/logits"], x["targets"]
    ),
    "feature_shift": lambda x: F.feature_shift(x["trunk"], x["view/a/trunk"]),
    "view_alignment": lambda x: F.view_alignment(*view_sides(x, "view_alignment")),
    "view_contrast": view_contrast,
    "step_contrast": lambda x: F.step_contrast(
        *view_sides(x, "step_contrast"), x["mask"]
    ),
    "value_distance": value_distance,
    "prior_kl": lambda x: F.prior_kl(
        *(x[f"view/a/latent/{name}"] for name in ("mean", "log_variance"))
    ),
}
"""By row of `table.LOSSES`: its function, of all arrays by name."""


def test_every_loss_has_its_function():
    types = {type(row.loss) for row in LOSSES.values()}
    assert {type(LOSSES[name].loss) for name in FUNCTIONS} == types


@functools.cache
def both_ways():
    """What each function returns, of one program, and the `table.Result` of its class.

    The laws' program of all classes, which a process compiles once.
    """

    def functions(arrays):
        return {name: function(arrays) for name, function in FUNCTIONS.items()}

    floats, fixed = arrays()
    values = jax.device_get(jax.jit(functions)(floats | fixed))
    return values, table.steps(floats, fixed)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_class_equals_its_function(name):
    # dear: compiles all functions, and alone the classes too.
    functions, classes = both_ways()
    expected, actual = functions[name], classes[name].values
    mask = np.asarray(arrays()[1]["mask"])
    if expected.ndim == 0:  # one value for the batch: the mean of the class's
        actual = np.mean(actual[mask])
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_allclose(actual, expected * mask, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_arrays_of_fewer_bits_are_read_as_float32(name, dtype):
    # Tests promote strictly: an operation that mixes widths raises while tracing.
    def narrow(floats, fixed):
        return FUNCTIONS[name]({k: x.astype(dtype) for k, x in floats.items()} | fixed)

    def widened(floats, fixed):
        floats = {k: x.astype(dtype).astype("float32") for k, x in floats.items()}
        return FUNCTIONS[name](floats | fixed)

    floats, fixed = arrays()
    assert jax.eval_shape(narrow, floats, fixed).dtype == jnp.float32
    if dtype == "bfloat16" and name in ("cross_entropy", "forward_kl"):
        actual, expected = jax.jit(lambda *x: (narrow(*x), widened(*x)))(floats, fixed)
        np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-7)


def test_optax_agrees():
    floats, fixed = arrays()
    logits, teacher = both(floats)
    targets = fixed["targets"]

    @jax.jit
    def of_both(logits, teacher, targets):
        log_q, p = jax.nn.log_softmax(logits), jax.nn.softmax(teacher)
        of_optax = optax.losses.softmax_cross_entropy_with_integer_labels
        labels = functional.cross_entropy(logits, targets), of_optax(logits, targets)
        kl = optax.losses.kl_divergence(log_q, p)
        return labels, (functional.forward_kl(logits, teacher), kl)

    labels, divergences = of_both(logits, teacher, targets)
    np.testing.assert_allclose(*labels, rtol=1e-5)
    np.testing.assert_allclose(*divergences, rtol=1e-4, atol=1e-6)


def test_cka_of_features_far_from_zero():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(40, 6)) + 1000.0).astype(np.float32)
    y = (x @ rng.normal(size=(6, 6)) + rng.normal(size=(40, 6))).astype(np.float32)
    a, b = (h - h.mean(0) for h in (x.astype(np.float64), y.astype(np.float64)))
    norm = np.linalg.norm
    expected = 1 - norm(a.T @ b) ** 2 / (norm(a.T @ a) * norm(b.T @ b))
    actual = jax.jit(functional.cka)(x, y)
    np.testing.assert_allclose(actual, expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["cross_entropy", "smoothed_cross_entropy"])
def test_a_target_beyond_the_vocabulary_has_no_value(name):
    logits = np.arange(15, dtype=np.float32).reshape(3, 5)
    targets = np.array([-100, 4, 5], np.int32)

    def counted(logits):
        values = getattr(functional, name)(logits, targets)
        return jnp.sum(jnp.where(jnp.isnan(values), 0.0, values)), values

    run = jax.jit(jax.value_and_grad(counted, has_aux=True))
    (_, values), grads = jax.device_get(run(logits))
    np.testing.assert_array_equal(np.isnan(values), [True, False, True])
    np.testing.assert_array_equal(np.any(grads != 0.0, axis=-1), [False, True, False])
    assert np.all(np.isfinite(grads))


def test_float64_numpy_agrees():
    floats, fixed = arrays()
    s, t = (np.asarray(x, np.float64) for x in both(floats))
    log_z = np.log(np.sum(np.exp(s), axis=-1))
    p, q = (np.exp(x) / np.sum(np.exp(x), axis=-1, keepdims=True) for x in (t, s))
    np.testing.assert_allclose(
        jax.jit(functional.z_loss)(floats["logits"]), log_z**2, rtol=1e-5
    )
    np.testing.assert_allclose(
        jax.jit(functional.total_variation)(*both(floats)),
        np.abs(p - q).sum(-1) / 2,
        rtol=1e-5,
        atol=1e-6,
    )
    np.testing.assert_allclose(
        jax.jit(functional.reverse_kl)(*both(floats)),
        np.sum(q * np.log(q / p), axis=-1),
        rtol=1e-4,
        atol=1e-6,
    )
    counted = np.asarray(fixed["mask"])
    features = (np.asarray(x, np.float64)[counted] for x in hidden(floats))
    x, y = (h - h.mean(0) for h in features)
    norm = np.linalg.norm
    similarity = norm(x.T @ y) ** 2 / (norm(x.T @ x) * norm(y.T @ y))
    np.testing.assert_allclose(
        jax.jit(functional.cka)(*hidden(floats), fixed["mask"]),
        1 - similarity,
        rtol=1e-4,
    )


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_a_mask_that_is_not_a_bool_a_token_is_refused(dtype):
    x = {name: value for part in arrays() for name, value in part.items()}
    segments = jnp.ones_like(x["targets"])
    functions = [
        lambda mask: F.cka(*hidden(x), mask),
        lambda mask: F.intra_class_correlation(*both(x), mask),
        lambda mask: F.load_balance(*routing(x)[:2], mask),
        lambda mask: F.sequence_load_balance(*routing(x)[:2], mask),
        lambda mask: F.relations(
            x["queries/0"], x["teacher/queries/1"], segments, heads=3, mask=mask
        ),
    ]
    for function in functions:
        with pytest.raises(ValueError, match=f"must be bool, got {dtype}"):
            function(2 * x["mask"].astype(dtype))
        with pytest.raises(ValueError, match="must have the shape of the tokens"):
            function(x["mask"][:1])
