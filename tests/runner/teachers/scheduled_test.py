"""Teachers by the step: one teaches at a time, and a run that goes on knows which."""

import dataclasses

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from losses import TeacherOutputs
from runner.checkpoint.checkpoints import Checkpoints
from runner.errors import UserError
from runner.exchange.importing import Choices, import_records
from runner.head import flops
from runner.teachers import (
    EMATeacher,
    OfflineTeacher,
    OnlineTeacher,
    ScheduledTeacher,
    TeacherContext,
)
from runner.teachers.base import LoadedTeacher, LogitTiles, TeacherTrunk
from runner.teachers.scheduled import LoadedSchedule
from tests.runner.exchange import producers
from tests.runner.exchange import teacher as made_up
from tests.runner.teachers import examples

SIZE = 7
TURNS = {0: 0, 3: 0, 4: 1, 8: 1, 9: 2, 50: 2}


class Linear(LoadedTeacher):
    """Logits `(x @ trunk) @ head`, of a width of its own."""

    def describe(self):
        return {}

    def trunk(self, frozen, ema, batch, *, capture, logits):
        def outputs(head, tokens, batch):
            return TeacherOutputs(logits=tokens @ head)

        def tile(head, tokens, partition, start, width):
            return tokens @ head[:, start : start + width]

        return TeacherTrunk(
            tokens=batch["x"] @ frozen["trunk"],
            head_params=frozen["head"],
            outputs=outputs,
            full_logits=True,
            tiles=LogitTiles(entries=SIZE, width=SIZE, outputs=outputs, logits=tile),
        )


def arrays(width):
    random = np.random.default_rng(width)
    shapes = {"trunk": (4, width), "head": (width, SIZE)}
    return {name: random.normal(size=shape) for name, shape in shapes.items()}


def test_each_teacher_speaks_alone_in_its_turn_and_costs_alone():
    frozen = {name: arrays(width) for name, width in {"a": 3, "b": 5, "c": 2}.items()}
    loaded = LoadedSchedule(dict.fromkeys(frozen, Linear()), (0, 4, 9))
    x = np.random.default_rng(0).normal(size=(6, 4))

    def logits(frozen, step, x):
        trunk = loaded.trunk(
            frozen, {"step": step}, {"x": x}, capture=frozenset(), logits=True
        )
        tile = trunk.tiles.logits(trunk.head_params, trunk.tokens, None, 2, 3)
        return trunk.outputs(trunk.head_params, trunk.tokens, {}).logits, tile

    compiled = jax.jit(logits)
    for step, turn in TURNS.items():
        own = list(frozen.values())[turn]
        expected = x @ own["trunk"] @ own["head"]
        whole, tile = compiled(frozen, jnp.int32(step), x)
        np.testing.assert_allclose(whole, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(tile, expected[:, 2:5], rtol=1e-4, atol=1e-5)

    # The dearest alone (5 wide): its trunk once, its whole head and a tile.
    cost = flops.matmul_flops(logits, frozen, jnp.int32(0), x)
    assert cost == 2 * 6 * 5 * (4 + SIZE + 3)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((0,), r"must be 2 whole numbers, one a teacher, rising from 0; got \[0\]$"),
        ((0, 5, 9), r"got \[0, 5, 9\]$"),
        ((5, 9), r"got \[5, 9\]; did you mean \[0, 9\]\?"),
        ((500, 0), r"got \[500, 0\]; did you mean \[0, 500\]\?"),
        ((0, 5.0), r"got \[0, 5.0\]; did you mean \[0, 5\]\?"),
        ((500,), r"got \[500\]; did you mean \[0, 500\]\?"),
        ((0, float("nan")), r"got \[0, nan\]$"),
        ((0, 2**31), r"got \[0, 2147483648\]$"),
        ((0, "soon"), r"got \[0, 'soon'\]$"),
    ],
)
def test_steps_that_do_not_rise_from_zero_are_refused(steps, message):
    with pytest.raises(ValueError, match=message):
        ScheduledTeacher(teachers=(EMATeacher(), EMATeacher()), from_steps=steps)
    with pytest.raises(ValueError, match="at least one teacher"):
        ScheduledTeacher(teachers=(), from_steps=steps)


def test_a_schedule_without_a_run_is_refused():
    context = TeacherContext(vocabulary=None, mesh=None, rules=())
    node = ScheduledTeacher(teachers=(EMATeacher(), EMATeacher()), from_steps=(0, 9))
    with pytest.raises(UserError, match="here is none; wanted: one of its teachers"):
        node.load(context)
    message = r"teachers\[1\] begins after 9 steps, and the run has 9; .* at most 8$"
    with pytest.raises(UserError, match=message):
        node.load(dataclasses.replace(context, num_steps=9))


@pytest.mark.slow
def test_records_are_those_of_the_teacher_whose_turn_it_is(tmp_path):
    source, data = tmp_path / "answers.jsonl", made_up.dataset()
    stored = {}
    for name, fewer in (("whole", None), ("others", None), ("few", 2)):
        answers = list(map(producers.vllm_answer, producers.sequences()))
        producers.write_lines(source, answers)
        choices = Choices(entries=fewer) if fewer else Choices(partial=name == "others")
        import_records("vllm", source, tmp_path / name, data, choices)
        stored[name] = OfflineTeacher(records=str(tmp_path / name))
    context = TeacherContext(
        vocabulary=data.vocabulary, mesh=None, rules=(), num_steps=9
    )

    def load(*names):
        members = [stored[name] for name in names]
        steps = range(0, 4 * len(members), 4)
        node = ScheduledTeacher(teachers=members, from_steps=steps)
        return node.load(context)

    loaded = load("whole", "others")
    rows = loaded.rows_with_records(data).rows(np.array([3, 0, 6]))
    batch = {name: jnp.asarray(x) for name, x in rows.items()}
    # So that the two differ: the second has other entries.
    batch["teacher/1/ids16"] = batch["teacher/1/ids16"] + 1
    for step, turn in ((0, 0), (3, 0), (4, 1), (9, 1)):
        state = {"step": jnp.int32(step)}
        trunk = loaded.trunk({}, state, batch, capture=frozenset(), logits=True)
        actual = trunk.outputs(trunk.head_params, {}, batch)
        np.testing.assert_array_equal(actual.indices, batch[f"teacher/{turn}/ids16"])
    with pytest.raises(UserError, match=r"teachers\[1\]: entries of its records is 2"):
        load("whole", "few")


@pytest.mark.slow
def test_a_run_has_each_teacher_in_its_turn_and_goes_on_bit_for_bit(tmp_path):
    corpus = examples.source(tmp_path / "corpus")
    dataset = fdl.build(corpus).load()
    online = OnlineTeacher(
        checkpoint=str(examples.write_run(tmp_path / "teacher", dataset))
    )
    average = EMATeacher(decay=0.3)
    node = ScheduledTeacher(teachers=(online, average), from_steps=(0, 2))

    def run(teacher, start=0, state=None):
        """Losses and states of three steps, or of those that are left."""
        experiment = examples.experiment(corpus, teacher)
        setup = examples.ready(dataclasses.replace(experiment, num_steps=3))
        if state is not None:
            state = state(setup)
        leaves = jax.tree.leaves(setup.initial_state() if state is None else state)
        values, states = [], []
        with setup.batches(start=start) as batches:
            for _ in range(start, 3):
                leaves, metrics = setup.step(leaves, next(batches))
                values.append(jax.device_get(metrics))
                states.append(jax.device_get(setup.step.unflatten(leaves)))
        return values, states

    scheduled, states = run(node)
    alone, _ = run(online)
    # The first two steps are the model's, bit for bit; the third is the average's.
    jax.tree.map(np.testing.assert_array_equal, scheduled[:2], alone[:2])
    of_average = states[1].teacher["teachers[1]"]
    switched = dataclasses.replace(states[1], teacher=of_average)
    (third,), _ = run(average, start=2, state=lambda setup: switched)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        scheduled[2],
        third,
    )
    assert [int(x.teacher["step"]) for x in states] == [1, 2, 3]

    # Saved after the second step, and gone on.
    with Checkpoints(tmp_path / "saved", keep=1) as checkpoints:
        checkpoints.save(2, states[1])
        checkpoints.wait()

        def restored(setup):
            return checkpoints.restore(2, setup.step.state)

        values, last = run(node, start=2, state=restored)
    jax.tree.map(np.testing.assert_array_equal, values, scheduled[2:])
    jax.tree.map(np.testing.assert_array_equal, last[-1], states[-1])
