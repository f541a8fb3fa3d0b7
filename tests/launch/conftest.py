"""A Slurm of one's own, and `--rewrite_goldens`, the switch that rewrites goldens."""

import contextlib

import pytest

from tests.launch import slurm_cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if reason := slurm_cluster.missing():
        pytest.skip(reason)
    with slurm_cluster.Cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


def pytest_addoption(parser):
    # `tests/configs` has the same switch, and may be asked for beside this folder.
    with contextlib.suppress(ValueError):
        parser.addoption(
            "--rewrite_goldens",
            action="store_true",
            help="write tests/golden/*.txt from configs/*.py instead of comparing",
        )
