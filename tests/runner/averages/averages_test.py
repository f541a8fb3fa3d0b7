"""Averages of the weights over steps, and optimisers that read the loss."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import runner
from runner import averages, main, optimizers
from runner.errors import UserError
from runner.weights.run import RunWeights

STEPS = 9


def trajectory(kept):
    """Weights after each step of a small descent, and the averages then."""
    optimizer = averages.averaged(optax.sgd(0.3, momentum=0.5), kept)
    start = {"student": {"w": jnp.array([2.0, -1.0])}, "losses": {}, "weights": {}}

    def step(carry, _):
        params, state = carry
        gradient = jax.tree.map(lambda x: x * jnp.array([1.0, 3.0]), params)
        updates, state = optimizer.update(gradient, state, params)
        params = optimizers.apply_updates(params, updates)
        means = {
            name: averages.student(state, name, params["student"])["w"] for name in kept
        }
        return (params, state), (params["student"]["w"], means)

    begin = (start, optimizer.init(start))
    _, result = jax.jit(lambda: jax.lax.scan(step, begin, None, STEPS))()
    weights, means = jax.device_get(result)
    return np.concatenate([[[2.0, -1.0]], weights]).astype(np.float64), means


def test_each_average_is_that_of_its_formula():
    weights, means = trajectory(
        {
            "ema": averages.EMA(decay=0.6),
            "late": averages.MeanFrom(first=3, every=2),
            "last": averages.MeanOfLast(count=3, every=2),
        }
    )
    ema = weights[0]
    for step in range(1, STEPS + 1):
        decay = min(0.6, (1 + step) / (10 + step))
        ema = decay * ema + (1 - decay) * weights[step]
        late = weights[3 : step + 1 : 2] if step >= 3 else weights[step : step + 1]
        snapshots = weights[2 : step + 1 : 2][-3:] if step >= 2 else weights[:1]
        expected = {
            "ema": ema,
            "late": late.mean(0),
            "last": snapshots.mean(0),
        }
        for name, value in expected.items():
            np.testing.assert_allclose(
                means[name][step - 1], value, rtol=1e-5, err_msg=f"{name} {step}"
            )


def test_an_average_leaves_the_weights_as_they_are():
    alone, _ = trajectory({})
    beside, _ = trajectory({"ema": averages.EMA()})
    np.testing.assert_array_equal(alone, beside)


def test_an_average_that_is_not_kept_is_named_beside_those_that_are():
    state = averages.averaged(optax.sgd(0.1), {"ema": averages.EMA()}).init(
        {"student": {"w": jnp.zeros(2)}}
    )
    with pytest.raises(UserError, match=r"keeps no 'em'; did you mean 'ema'"):
        averages.student(state, "em", {"w": jnp.zeros(2)})
    with pytest.raises(ValueError, match="every of MeanOfLast must be at least 1"):
        averages.MeanOfLast(count=2, every=0)


def test_an_optimizer_that_reads_the_loss_is_handed_it():
    """Polyak's step, `f / |∇f|²`, of `f = |w|² / 2`: the weights are halved."""
    kept = averages.averaged(
        optax.polyak_sgd(max_learning_rate=10.0), {"ema": averages.EMA()}
    )
    params = {"student": {"w": jnp.array([3.0, 4.0])}}
    state = kept.init(params)
    updates, _ = kept.update(params, state, params, value=jnp.float32(12.5))
    [halved] = jax.tree.leaves(updates)
    np.testing.assert_allclose(halved, [-1.5, -2.0], rtol=1e-6)


CONFIG = """
import fiddle as fdl
import runner
from configs import vision_digits


def config() -> fdl.Config:
    cfg = vision_digits.config.as_buildable()
    cfg.optimizer = fdl.Config(
        runner.averages.averaged,
        cfg.optimizer,
        {"last": fdl.Config(runner.averages.MeanOfLast, count=2, every=1)},
    )
    held_out = cfg.evaluations[0]
    cfg.evaluations.append(
        fdl.Config(
            runner.Evaluation,
            name="mean",
            data=held_out.data,
            batch_size=64,
            average="last",
        )
    )
    return cfg
"""


@pytest.mark.slow
def test_an_average_is_evaluated_beside_the_weights_and_read_from_the_run(tmp_path):
    # dear: a whole run, compiled as a user would.
    (tmp_path / "averaged.py").write_text(CONFIG)
    flags = ["--fdl.num_steps=3", "--fdl.batch_size=16", "--gin.loop.log_every=1"]
    config = f"--fdl_config={tmp_path / 'averaged.py'}"
    workdir = tmp_path / "run"
    assert main.main(["runner", config, f"--workdir={workdir}", *flags]) == 0
    result = json.loads((workdir / "result.json").read_text())["evaluations"]
    assert result["mean"]["loss"] != result["held_out"]["loss"]
    own, mean = (RunWeights(str(workdir), 3, name).tensors() for name in ("", "last"))
    path = next(iter(own))
    assert own.keys() == mean.keys()
    assert np.any(np.asarray(own[path].read()) != np.asarray(mean[path].read()))
    with pytest.raises(UserError, match="has no average 'ema'; one of: last"):
        RunWeights(str(workdir), 3, "ema")
    assert runner.averages is averages
