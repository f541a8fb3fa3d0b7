"""Load balance: value and gradient of what other trainers compute, in float64 NumPy."""

import numpy as np
import pytest

import losses
from tests.losses.jitted import mean, mean_and_grad, values

ROWS, LENGTH, LAYERS, EXPERTS, K = 3, 6, 2, 5, 2


@pytest.fixture
def router():
    """Logits, choices, and a mask of rows of very different length."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(ROWS, LENGTH, LAYERS, EXPERTS), scale=2.0)
    chosen = np.argsort(-logits, axis=-1)[..., :K]
    return logits, chosen, np.arange(LENGTH) < np.array([[6], [1], [4]])


def batch(mask):
    """Rows of which all that is not padding has a target."""
    return {
        "targets": np.zeros(mask.shape, np.int32),
        "mask": mask,
        "segment_ids": mask.astype(np.int32),
    }


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def hits(chosen):
    return np.eye(EXPERTS)[chosen]


def switch(logits, chosen, mask):
    """Fedus et al., eq. 4-6: `N Σ_i f_i P_i` of each layer, added to the loss."""
    total = 0.0
    for layer in range(LAYERS):
        first = hits(chosen)[mask][:, layer, 0]
        total += EXPERTS * first.mean(0) @ softmax(logits)[mask][:, layer].mean(0)
    return total


def megatron(logits, chosen, mask):
    """`Σ_e Σp_e n_e · E / (k N²)` over the global batch, a layer at a time."""
    total, count = 0.0, mask.sum()
    for layer in range(LAYERS):
        per_expert = hits(chosen)[mask][:, layer].sum((0, 1))
        probabilities = softmax(logits)[mask][:, layer].sum(0)
        total += per_expert @ probabilities * EXPERTS / (K * count * count)
    return total


def transformers(logits, chosen, mask):
    """The layers' tokens end to end; the mean hit of each choice; no division by k."""
    p = np.concatenate([softmax(logits)[mask][:, layer] for layer in range(LAYERS)])
    one_hot = np.concatenate([hits(chosen)[mask][:, layer] for layer in range(LAYERS)])
    return np.sum(one_hot.mean(0) * p.mean(0)[None]) * EXPERTS


def maxtext(logits, chosen, mask):
    """Density over each sequence; the mean of the products times E²; mean of layers."""
    del mask
    density = hits(chosen).sum(-2).mean(1)
    return np.mean(density * softmax(logits).mean(1)) * EXPERTS**2


def deepseek(logits, chosen, mask):
    """V2, eq. 23-25: `Σ_i f_i P_i`, `f_i = E/(k T) Σ_t 1`, mean over sequences."""
    del mask
    total = 0.0
    for row in range(ROWS):
        for layer in range(LAYERS):
            counts = np.bincount(chosen[row, :, layer].ravel(), minlength=EXPERTS)
            f = counts * EXPERTS / (K * LENGTH)
            total += f @ softmax(logits)[row, :, layer].mean(0) / ROWS
    return total


# By peer: the loss, its formula, how many of the choices it reads, whether it masks.
PEERS = {
    "switch": (losses.LoadBalance(layers="sum"), switch, 1, True),
    "qwen, megatron": (losses.LoadBalance(layers="sum"), megatron, K, True),
    "transformers": (
        losses.LoadBalance(layers="pooled", scale="experts"),
        transformers,
        K,
        True,
    ),
    "maxtext": (losses.SequenceLoadBalance(scale="experts"), maxtext, K, False),
    "deepseek": (losses.SequenceLoadBalance(layers="sum"), deepseek, K, False),
}


def outputs(logits, chosen, mask):
    """Inputs of a loss of the student's routers, over tokens `mask`."""
    return losses.FullOutputs(
        batch=batch(mask),
        logits=np.zeros((*mask.shape, 2), np.float32),
        intermediates={
            "router_logits": np.float32(logits),
            "router_assignments": np.int32(chosen),
        },
    )


def slopes(formula, logits, *rest, step=1e-5):
    """Central differences; the choices stay as they are, as `f` has no gradient."""
    found = np.zeros_like(logits)
    for place in np.ndindex(logits.shape):
        moved = np.zeros_like(logits)
        moved[place] = step
        change = formula(logits + moved, *rest) - formula(logits - moved, *rest)
        found[place] = change / (2 * step)
    return found


@pytest.mark.parametrize("peer", PEERS)
def test_value_and_gradient_are_those_of_the_peer(router, peer):
    loss, formula, k, masks = PEERS[peer]
    logits, chosen, mask = router
    chosen = chosen[..., :k]
    mask = mask if masks else np.ones_like(mask)
    inputs = outputs(logits, chosen, mask)
    value, gradient = mean_and_grad(loss, inputs, "router_logits")
    np.testing.assert_allclose(value, formula(logits, chosen, mask), rtol=1e-5)
    expected = slopes(formula, logits, chosen, mask)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7)


def test_padding_is_in_no_share_of_a_sequence(router):
    """A padded row counts as its own tokens alone, whatever padding chose."""
    logits, chosen, mask = router
    loss = losses.SequenceLoadBalance()
    whole = mean(loss, outputs(logits, chosen, mask))
    alone = [
        mean(
            loss,
            outputs(
                logits[row : row + 1, :length],
                chosen[row : row + 1, :length],
                np.ones((1, length), bool),
            ),
        )
        for row, length in enumerate(mask.sum(1))
    ]
    np.testing.assert_allclose(whole, np.average(alone, weights=mask.sum(1)), rtol=1e-6)


def test_pooled_layers_make_up_for_each_other():
    """Two layers, each with all tokens on one expert of two: pooled, all is even."""
    logits = np.array([[[9.0, -9.0], [-9.0, 9.0]]] * 4)
    inputs = outputs(logits, np.array([[[0], [1]]] * 4), np.ones(4, bool))
    separate = mean(losses.LoadBalance(), inputs)
    pooled = mean(losses.LoadBalance(layers="pooled"), inputs)
    np.testing.assert_allclose([separate, pooled], [2.0, 1.0], rtol=1e-6)


def test_the_teachers_router_is_another_source(router):
    logits, chosen, mask = router
    teacher = losses.TeacherOutputs(
        intermediates={
            "router_logits": np.float32(logits),
            "router_assignments": np.int32(chosen),
        }
    )
    loss = losses.LoadBalance(source="teacher/router", layers="sum")
    assert loss.needs == {"teacher/router_logits", "teacher/router_assignments"}
    inputs = losses.FullOutputs(
        batch=batch(mask),
        logits=np.zeros((*mask.shape, 2), np.float32),
        teacher=teacher,
    )
    expected = megatron(logits, chosen, mask)
    np.testing.assert_allclose(mean(loss, inputs), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source": ""}, "source must name a router, .* got ''"),
        ({"source": "student/router"}, "got 'student/router'"),
        ({"layers": "max"}, "layers must be one of mean, sum, pooled, got 'max'"),
        ({"scale": "k"}, "scale must be one of experts_over_k, experts, got 'k'"),
    ],
)
@pytest.mark.parametrize("kind", [losses.LoadBalance, losses.SequenceLoadBalance])
def test_a_wrong_field_is_named_with_its_value(kind, fields, message):
    with pytest.raises(ValueError, match=message):
        kind(**fields)


def test_router_z_loss_adds_layers_up_or_takes_their_mean():
    """Zoph et al., eq. 5, in float64, a layer at a time."""
    logits = np.random.default_rng(1).normal(size=(7, LAYERS, EXPERTS))
    by_layer = np.log(np.exp(logits).sum(-1)) ** 2
    inputs = losses.FullOutputs(
        batch={"targets": np.zeros(7, np.int32)},
        logits=np.zeros((7, 2), np.float32),
        intermediates={"router_logits": np.float32(logits)},
    )
    for loss, expected in (
        (losses.RouterZLoss(layers="sum"), by_layer.sum(1)),
        (losses.RouterZLoss(), by_layer.mean(1)),
    ):
        np.testing.assert_allclose(values(loss, inputs), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="layers must be one of mean, sum, got"):
        losses.RouterZLoss(layers="pooled")
