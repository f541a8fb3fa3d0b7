"""Fresh states are made on one device, which compiles an initializer once."""

import pytest

from runner.state.trainable import TrainModules
from tests.runner.states import placed_state


@pytest.fixture(autouse=True, scope="module")
def states_are_made_on_one_device(request):
    """Nearly half of a step's test would else compile its initializer for its mesh.

    Left out by `pytestmark = pytest.mark.own_initializer`.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not request.node.get_closest_marker("own_initializer"):
            patch.setattr(TrainModules, "create", placed_state)
        yield
