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
END = 3


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
        pytest.param(
            {"attention_window": 2, "layers": "stacked", "num_layers": 3},
            marks=pytest.mark.slow,  # as is the next: `stacked_pattern` has both
        ),
        pytest.param(
            {"attention_pattern": PATTERN, "num_layers": 3}, marks=pytest.mark.slow
        ),
        {"head_rank": 4, "num_layers": 1, "attention_sinks": True},
        {"attention_pattern": PATTERN, "num_layers": 3, "layers": "stacked"},
    ],
    ids=[
        *("dense", "moe", "window", "stacked", "pattern", "factored_head"),
        "stacked_pattern",
    ],
)
def test_the_cache_leaves_the_tokens_alone(fields):
    model = transformer(**fields)
    tokens = generate(model, PROMPTS, LENGTHS, num_tokens=5)
    for row in range(3):
        expected = without_a_cache(model, PROMPTS[row], int(LENGTHS[row]), 5)
        np.testing.assert_array_equal(tokens[row], expected)


# dear: compiles the model at the length of each prompt
@pytest.mark.slow
def test_rotations_go_by_the_length_of_a_prompt_and_not_of_its_padding():
    scaling = rope_scaling.LongRoPE(
        short=(1.0, 1.0), long=(0.2, 0.4), original_length=3
    )
    model = transformer(rope_scaling=scaling, head_dim=4, num_layers=1)
    for seed in range(3):
        draw = np.random.default_rng(seed)
        prompts = jnp.asarray(np.int32(draw.integers(0, VOCAB, (3, 5))))
        lengths = jnp.asarray([5, 3, 2], jnp.int32)
        tokens = generate(model, prompts, lengths, num_tokens=1)
        expected = [
            np.argmax(next_logits(model, prompt[:length])[-1])
            for prompt, length in zip(prompts, lengths.tolist(), strict=True)
        ]
        np.testing.assert_array_equal(tokens[:, 0], expected)


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
    end = np.int64(end)  # as an array gives it
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


def test_a_row_is_the_same_alone_in_a_batch_in_any_order_and_place():
    model = transformer(num_layers=1)
    rows, draw = 7, np.random.default_rng(3)
    prompts = draw.integers(0, VOCAB, (rows, 40)).astype(np.int32)
    lengths = np.array([4, 33, 1, 40, 32, 2, 17])  # of one chunk and of two
    keys = jax.random.split(jax.random.key(5), rows)
    limits = np.array([5, 5, 2, 0, 5, 5, 5])

    def tokens(order, at_once):
        return generate(
            *(model, prompts[order], lengths[order]),
            **{"num_tokens": 5, "temperature": 1.5, "top_k": 20, "top_p": 0.9},
            **{"key": keys[order], "limits": limits[order], "end": END},
            at_once=at_once,
        )

    together = np.asarray(tokens(np.arange(rows), None))
    ended = np.sum(np.any(together == END, axis=1))
    assert 0 < ended < rows - 2, together  # so that places become free by and by
    assert (together[2, 1:] == together[2, 1]).all()
    assert (together[3] == 0).all()
    order = draw.permutation(rows)
    for at_once in (1, 3):
        np.testing.assert_array_equal(tokens(order, at_once), together[order])


def test_the_last_of_many_rows_go_on_in_fewer_places():
    model = transformer(num_layers=1)
    rows, draw = 18, np.random.default_rng(4)
    prompts = draw.integers(0, VOCAB, (rows, 6)).astype(np.int32)
    lengths, limits = draw.integers(1, 7, rows), draw.permutation(rows)
    how = {"num_tokens": rows, "limits": limits}
    together = generate(model, prompts, lengths, at_once=16, **how)
    alone = generate(model, prompts, lengths, at_once=1, **how)
    np.testing.assert_array_equal(together, alone)


def test_one_key_gives_each_row_its_own():
    model = transformer(num_layers=1)
    key = jax.random.key(2)
    prompts, how = np.tile(PROMPTS[:1], (3, 1)), {"num_tokens": 3, "temperature": 2.0}
    rows = np.asarray(generate(model, prompts, key=key, **how))
    keys = jnp.stack([jax.random.fold_in(key, i) for i in range(3)])
    np.testing.assert_array_equal(rows, generate(model, prompts, key=keys, **how))
    assert len({tuple(row) for row in rows.tolist()}) == 3


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
        ({"limits": jnp.ones((2,), jnp.int32)}, "limits must be one a prompt"),
        ({"at_once": 0}, "at_once must be positive, got 0"),
        ({"prompts": PROMPTS[:0]}, r"prompts must be \[b p\], at least one"),
        ({"prompts": PROMPTS[0]}, r"prompts must be \[b p\], .* got \(4,\)"),
        ({"lengths": LENGTHS.at[1].set(0)}, "must be 1 to 4, got 0 of prompt 1"),
        ({"lengths": LENGTHS.at[2].set(5)}, "must be 1 to 4, got 5 of prompt 2"),
        (
            {"prompts": PROMPTS.at[1, 1].set(VOCAB)},
            f"prompts must be ids below {VOCAB}, got {VOCAB} at place 1 of prompt 1",
        ),
        (
            {"temperature": 1.0, "key": jax.random.split(jax.random.key(0), 2)},
            r"key must be one, or one a prompt, got \(2,\)",
        ),
    ],
)
def test_a_wrong_argument_is_named_with_its_value(fields, message):
    with pytest.raises(ValueError, match=message):
        generate(
            transformer(num_layers=1),
            **({"prompts": PROMPTS, "lengths": LENGTHS, "num_tokens": 2} | fields),
        )
