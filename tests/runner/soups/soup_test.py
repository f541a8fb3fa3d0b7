"""Soups: means of weights, chosen by a held-out loss."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from runner import main
from runner.errors import UserError
from runner.soups import learning, mixing
from runner.weights.location import Location
from runner.weights.run import RunWeights

ROOT = Path(__file__).parents[3]
GOAL = np.array([1.0, 2.0, -1.0], np.float32)


def mix(students, *, greedy):
    """Soups of points, whose loss is their distance from a goal."""
    runs = [Location(str(i)) for i in range(len(students))]

    def read(where):
        return {"w": jnp.asarray(students[int(where.path)], jnp.float32)}

    def loss(student):
        return float(np.sum(np.square(np.asarray(student["w"]) - GOAL)))

    soup, ingredients = mixing.mix(runs, read, loss, greedy=greedy)
    assert soup is not None
    return np.asarray(soup["w"]), ingredients, loss(soup)


@pytest.mark.parametrize("greedy", [True, False])
def test_a_soup_of_copies_is_the_run_bit_for_bit(greedy):
    copy = np.random.default_rng(0).normal(size=3).astype(np.float32)
    soup, _, _ = mix([copy] * 5, greedy=greedy)
    np.testing.assert_array_equal(soup, copy)


def test_a_uniform_soup_is_the_mean_in_whatever_order():
    students = np.random.default_rng(1).normal(size=(4, 3))
    for order in ([0, 1, 2, 3], [2, 0, 3, 1]):
        soup, ingredients, _ = mix(students[order], greedy=False)
        np.testing.assert_allclose(soup, students.mean(0), rtol=1e-5)
        assert all(one.mixed for one in ingredients)


def test_a_greedy_soup_is_never_worse_than_the_best_and_leaves_out_what_harms():
    near = [GOAL + 0.3, GOAL - 0.3]
    soup, ingredients, loss = mix([GOAL + 9.0, *near], greedy=True)
    np.testing.assert_allclose(soup, GOAL, rtol=1e-5, atol=1e-6)
    assert [one.run for one in ingredients if one.mixed] == ["1", "2"]
    for seed in range(5):
        students = np.random.default_rng(seed).normal(size=(6, 3))
        _, ingredients, loss = mix(students, greedy=True)
        tried = [one.loss_with for one in ingredients if one.mixed][1:]
        assert loss <= ingredients[0].loss
        assert tried == sorted(tried, reverse=True)


def test_a_run_whose_loss_is_no_number_is_in_no_soup():
    diverged = np.full(3, np.nan)
    soup, ingredients, _ = mix([diverged, GOAL + 9.0, GOAL + 0.3], greedy=True)
    np.testing.assert_array_equal(soup, np.float32(GOAL + 0.3))
    assert [one.run for one in ingredients] == ["2", "1", "0"]
    for students, greedy in (([GOAL, diverged], False), ([diverged], True)):
        with pytest.raises(UserError, match=r"the held-out loss of \d is nan"):
            mix(students, greedy=greedy)


def learn(students, goal, *, steps, by_layer):
    """Shares of least squared distance from a goal, and of a scale from 2."""

    def loss(student, scale, batch):
        parts = jax.tree.map(lambda x, y: jnp.sum((x - y) ** 2), student, batch)
        return sum(jax.tree.leaves(parts)) + (scale - 2.0) ** 2

    plan = learning.Plan(rate=0.1, by_layer=by_layer)
    trees = [jax.tree.map(jnp.asarray, x) for x in students]
    return learning.fit(loss, trees, [goal] * steps, plan)


def test_learned_shares_are_the_barycentric_coordinates_of_the_best_mean():
    draws = np.random.default_rng(0)
    shares = draws.dirichlet([2.0, 2.0, 2.0], size=3)  # of two layers and a head
    students = draws.normal(size=(3, 3, 4)).astype(np.float32)  # [run array entry]
    best = np.einsum("ar,rae->ae", shares, students).astype(np.float32)

    def tree(x):
        return {"blocks": {"stacked": {"w": x[:2]}}, "output": x[2]}

    every = [tree(x) for x in students]
    soup, learned = learn(every, tree(best), steps=300, by_layer=True)
    of_arrays = np.concatenate([*learned.shares.values()])
    np.testing.assert_allclose(of_arrays, shares, atol=2e-3)
    np.testing.assert_allclose(soup["output"], best[2], atol=5e-3)
    np.testing.assert_allclose(learned.scale, 2.0, atol=1e-3)

    # One share a run: least squares over all arrays at once.
    mean = np.einsum("r,rae->ae", shares[0], students).astype(np.float32)
    _, learned = learn(every, tree(mean), steps=300, by_layer=False)
    np.testing.assert_allclose(learned.of_runs(), shares[0], atol=2e-3)


def test_a_learned_soup_of_copies_is_the_run_bit_for_bit():
    copy = {"w": np.random.default_rng(2).normal(size=3).astype(np.float32)}
    goal = {"w": GOAL}
    soup, learned = learn([copy] * 3, goal, steps=2, by_layer=True)
    np.testing.assert_array_equal(soup["w"], copy["w"])
    np.testing.assert_allclose(learned.of_runs(), 1 / 3, rtol=1e-6)


def run(workdir, *flags):
    config = f"--fdl_config={ROOT / 'configs' / 'vision_digits.py'}"
    tiny = ["--fdl.num_steps=2", "--fdl.batch_size=16", "--gin.loop.log_every=1"]
    return main.main(["runner", config, f"--workdir={workdir}", *tiny, *flags])


@pytest.mark.slow
def test_a_soup_of_runs_is_read_as_a_run(tmp_path, capsys):
    # dear: whole runs, compiled as a user would.
    folders = [str(tmp_path / name) for name in "ab"]
    for seed, folder in enumerate(folders):
        peak = f"--fdl.optimizer.learning_rate.peak_value={0.1 * (1 + seed)}"
        assert run(folder, peak, f"--fdl.seed={seed}") == 0
    made = tmp_path / "soup"
    assert run(made, f"--fiddler=soup({folders!r}, rule='uniform')") == 0
    assert "mixed in" in capsys.readouterr().out
    ingredients = json.loads((made / "soup.json").read_text())
    assert sorted(one["run"] for one in ingredients) == folders
    soup, *own = (RunWeights(str(x)).tensors() for x in (made, *folders))
    for path, tensor in soup.items():
        mean = np.mean([np.asarray(x[path].read()) for x in own], axis=0)
        np.testing.assert_allclose(
            np.asarray(tensor.read()), mean, rtol=1e-5, atol=1e-6
        )
    assert "held_out" in json.loads((made / "result.json").read_text())["evaluations"]
    assert run(made, f"--fiddler=soup({folders!r}, rule='uniform')") == 0
    assert "holds its soup already" in capsys.readouterr().out
    made = tmp_path / "learned"
    assert run(made, f"--fiddler=soup({folders!r}, rule='learned')") == 0
    shares = json.loads((made / "soup_shares.json").read_text())
    ingredients = json.loads((made / "soup.json").read_text())
    assert sum(one["share"] for one in ingredients) == pytest.approx(1.0)
    assert shares["shares"][""][0] == [one["share"] for one in ingredients]
    assert run(tmp_path / "none", "--fiddler=soup(['nowhere'])") == 2
    assert "nowhere" in capsys.readouterr().err
