import pytest

from tests.runner.step.inputs import ragged


@pytest.fixture(scope="module")
def batch():
    return ragged()
