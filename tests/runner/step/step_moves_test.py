"""A reader of one train step goes through few files."""

from tests.benchmarks import step_moves


def test_a_step_of_two_losses_makes_few_moves_between_files():
    """It made 502 moves, 29 deep, before the step stood on one page."""
    journey = step_moves.followed(None)
    assert 100 < journey.moves <= 250
    assert journey.depth <= 20
