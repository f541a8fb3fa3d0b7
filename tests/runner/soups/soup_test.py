"""Soups: means of weights, chosen by a held-out loss."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from runner import main
from runner.errors import UserError
from runner.soups import mixing
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
    assert run(tmp_path / "none", "--fiddler=soup(['nowhere'])") == 2
    assert "nowhere" in capsys.readouterr().err
