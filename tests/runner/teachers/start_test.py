import jax.numpy as jnp
import pytest

import runner
from runner import runtime
from runner.data.labels import Classes
from runner.errors import UserError
from runner.machine import mesh as mesh_lib
from runner.teachers import TeacherContext


def test_its_state_is_the_student_as_it_was():
    teacher = runner.StartTeacher()
    before, after = {"params": jnp.zeros(2)}, {"params": jnp.ones(2)}
    state = teacher.init_state(before)
    assert teacher.update_state(state, after, jnp.int32(1)) is state is before


def test_there_is_none_without_a_student():
    mesh = mesh_lib.make(runtime.Mesh(data=8))
    context = TeacherContext(
        vocabulary=Classes(names=("a",)), mesh=mesh, rules=runtime.Mesh().rules
    )
    with pytest.raises(UserError, match="a StartTeacher is its student's start"):
        runner.StartTeacher().load(context)
