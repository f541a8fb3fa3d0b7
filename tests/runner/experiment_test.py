import os
import subprocess
import sys
from pathlib import Path

import pytest

import losses
from losses import LossTerm
from runner import Evaluation, Experiment, runtime
from runner.errors import UserError
from runner.graph import build
from tests.runner import runs
from tests.runner.sweeps import tiny_config


def make(**fields):
    given = {
        "student": None,
        "losses": [LossTerm(name="ce", loss=losses.CrossEntropy())],
        "train_data": None,
        "optimizer": None,
        "num_steps": 1,
        "batch_size": 1,
    }
    return Experiment(**given | fields)


def test_two_terms_of_one_name_are_refused():
    term = LossTerm(name="ce", loss=losses.CrossEntropy())
    with pytest.raises(ValueError, match="two loss terms or groups are named 'ce'"):
        make(losses=[term, term])


def test_an_experiment_without_a_term_is_refused():
    with pytest.raises(ValueError, match="losses must hold at least one term"):
        make(losses=[])


@pytest.mark.parametrize("field", ["num_steps", "batch_size"])
def test_a_number_below_one_is_refused(field):
    with pytest.raises(ValueError, match=f"{field} must be at least 1, got 0"):
        make(**{field: 0})


def test_a_job_is_built_and_checked_without_a_device():
    program = (
        "from runner.graph import build, read\n"
        "build.job(read.read('configs/moe_zloss.py')[0])"
    )
    root = Path(__file__).parents[2]
    environment = os.environ | {"JAX_PLATFORMS": "nonsense"}
    subprocess.run(
        [sys.executable, "-c", program], cwd=root, env=environment, check=True
    )


def test_a_batch_of_more_rows_than_there_are_is_refused_with_both_numbers(tmp_path):
    runs.write_text(tmp_path / "text.txt")
    cfg = tiny_config.reads(tiny_config.config.as_buildable(), f"{tmp_path}/text.txt")
    cfg.batch_size = 8000
    config = runtime.Runtime(input=runtime.Input(cache=str(tmp_path)))
    job = build.job(cfg)
    assert isinstance(job, Experiment)
    with pytest.raises(UserError, match=r"^batch_size: 8000 rows, the training data"):
        job.prepare(config)


@pytest.mark.parametrize("seed", [-1, 2**32, 10**23])
def test_a_seed_has_32_bits_as_jax_keeps_no_more(seed):
    with pytest.raises(ValueError, match=r"seed must be 0 to 2\*\*32 - 1"):
        make(seed=seed)


@pytest.mark.parametrize("name", ["", "held out", "a/b", "1st", "x.y"])
def test_an_evaluation_is_named_by_an_identifier(name):
    with pytest.raises(ValueError, match="name must be an identifier"):
        Evaluation(name=name, data=None, batch_size=8)  # pyright: ignore[reportArgumentType] - not read
