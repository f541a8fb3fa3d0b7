import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import LayerAttention, MoE, rope_scaling
from models.decoding.generate import generate
from tests.models.inputs import VOCAB
from tests.models.states import transformer

PATTERN = (LayerAttention(window=2), LayerAttention(rotary=False))
PROMPTS = jnp.asarray([[3, 1, 4, 1], [5, 9, 0, 0], [2, 0, 0, 0]], jnp.int32)
LENGTHS = jnp.asarray([4, 2, 1], jnp.int32)


@jax.jit
def next_logits(model, tokens):
    """Logits after each position of one row, everything computed anew."""
    row = {
        "tokens": tokens[None],
        "segment_ids": jnp.ones((1, tokens.shape[0]), jnp.int32),
        "positions": jnp.arange(tokens.shape[0])[None],
    }
    return model.head(model.trunk(row).hidden)[0]


def without_a_cache(model, prompt, length, num_tokens):
    padded = np.zeros(PROMPTS.shape[1] + num_tokens, np.int32)
    padded[:length] = prompt[:length]
    for i in range(length, length + num_tokens):
        padded[i] = np.argmax(next_logits(model, jnp.asarray(padded))[i - 1])
    return padded[length : length + num_tokens]


@pytest.mark.parametrize(
    "fields",
    [
        {
            **{"qk_norm": True, "qk_norm_over": "heads", "attention_soft_cap": 5.0},
            **{"norm_placement": "both", "residual_scale": 0.5, "logit_divisor": 2.0},
        },
        {"mlp": functools.partial(MoE, num_experts=3, hidden_dim=8)},
        {"attention_window": 2, "rope_scaling": rope_scaling.Linear(factor=3.0)},
        {"attention_window": 2, "layers": "stacked", "num_layers": 3},
        {"attention_pattern": PATTERN, "num_layers": 3},
        {"attention_pattern": PATTERN, "num_layers": 3, "layers": "stacked"},
    ],
    ids=["dense", "moe", "window", "stacked", "pattern", "stacked_pattern"],
)
def test_the_cache_leaves_the_tokens_alone(fields):
    model = transformer(**fields)
    tokens = generate(model, PROMPTS, LENGTHS, num_tokens=5)
    for row in range(3):
        expected = without_a_cache(model, PROMPTS[row], int(LENGTHS[row]), 5)
        np.testing.assert_array_equal(tokens[row], expected)


def test_prompts_without_lengths_have_no_padding():
    model = transformer(num_layers=1)
    whole = generate(model, np.asarray(PROMPTS), num_tokens=2)
    lengths = jnp.full((3,), 4)
    padded = generate(model, PROMPTS, lengths, num_tokens=2)
    np.testing.assert_array_equal(whole, padded)


def test_a_row_stops_at_the_end_token():
    model = transformer(num_layers=1)
    free = np.asarray(generate(model, PROMPTS, LENGTHS, num_tokens=6))
    end = int(free[0, 2])
    stopped = np.asarray(generate(model, PROMPTS, LENGTHS, num_tokens=6, end=end))
    for row in range(3):
        ends = np.flatnonzero(free[row] == end)
        first = ends[0] if ends.size else 6
        np.testing.assert_array_equal(stopped[row, :first], free[row, :first])
        assert (stopped[row, first:] == end).all()


def test_any_of_several_ends_stops_a_row_and_is_repeated():
    model = transformer(num_layers=1)
    free = np.asarray(generate(model, PROMPTS, LENGTHS, num_tokens=6))
    ends = [int(free[0, 2]), int(free[1, 1])]
    stopped = np.asarray(generate(model, PROMPTS, LENGTHS, num_tokens=6, end=ends))
    for row in range(3):
        hits = np.flatnonzero(np.isin(free[row], ends))
        first = hits[0] if hits.size else 6
        np.testing.assert_array_equal(stopped[row, :first], free[row, :first])
        assert (stopped[row, first:] == free[row, first : first + 1]).all()


def test_prompts_of_all_lengths_together_are_what_each_is_alone():
    model = transformer(num_layers=1)
    keys = jax.random.split(jax.random.key(5), 3)
    how = {"num_tokens": 5, "temperature": 1.5, "top_k": 20, "top_p": 0.9}
    together = generate(model, PROMPTS, LENGTHS, key=keys, **how)
    for row in range(3):
        alone = PROMPTS[row : row + 1, : int(LENGTHS[row])]
        one = generate(model, alone, key=keys[row : row + 1], **how)
        np.testing.assert_array_equal(together[row : row + 1], one)


def test_draws_follow_the_softmax():
    model = transformer(num_layers=1)
    rows = 4000
    prompts = jnp.full((rows, 1), 7, jnp.int32)
    drawn = generate(
        model,
        prompts,
        jnp.ones((rows,), jnp.int32),
        num_tokens=1,
        temperature=2.0,
        key=jax.random.key(0),
    )
    expected = jax.nn.softmax(next_logits(model, prompts[0])[0] / 2.0)
    share = np.bincount(np.asarray(drawn)[:, 0], minlength=VOCAB) / rows
    np.testing.assert_allclose(share, expected, atol=0.03)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_tokens": 0}, "num_tokens must be positive, got 0"),
        ({"temperature": -1.0}, "temperature must not be negative, got -1.0"),
        ({"temperature": 1.0}, "temperature 1.0 needs a key"),
        ({"lengths": jnp.ones((2,), jnp.int32)}, "lengths must be one a prompt"),
    ],
)
def test_a_wrong_argument_is_named_with_its_value(fields, message):
    with pytest.raises(ValueError, match=message):
        generate(
            transformer(num_layers=1),
            PROMPTS,
            **({"lengths": LENGTHS, "num_tokens": 2} | fields),
        )
