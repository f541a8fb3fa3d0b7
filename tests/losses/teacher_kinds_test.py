"""The table of losses by teacher in `docs/objectives.md` is what the code does."""

import inspect

import losses
from tests.losses import teacher_kinds

WRITE = "python -m tests.losses.teacher_kinds --write"


def test_the_page_holds_the_table_that_the_code_makes():
    assert teacher_kinds.PLACE.read() == teacher_kinds.draw(), WRITE


def test_every_loss_has_a_row():
    offered = {
        name
        for name in losses.__all__
        for kind in [getattr(losses, name)]
        if inspect.isclass(kind)
        and issubclass(kind, losses.Loss)
        and not inspect.isabstract(kind)
        and not kind.__abstractmethods__
    }
    shown = {name.partition("(")[0] for name in teacher_kinds.instances()}
    assert offered == shown
