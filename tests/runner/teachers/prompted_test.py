"""A teacher with a prompt: the rows it reads, and that it says what it says of them."""

import dataclasses

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import losses
import runner
from losses import LossTerm
from runner.errors import UserError
from runner.teachers.prompted import PromptedTeacher, prompted_rows, require_room
from tests.runner.exchange import teacher as made_up
from tests.runner.teachers import examples

PROMPT, BEGIN, SEGMENTS = np.array([31, 32], np.int32), 9, 3
TOKENS = [[9, 1, 2, 9, 3, 0], [4, 5, 9, 6, 9, 7]]
IDS = [[1, 1, 1, 2, 2, 0], [1, 1, 2, 2, 3, 3]]


def test_the_prompt_stands_in_each_document_and_outputs_are_found():
    batch = {"tokens": np.array(TOKENS, "i4"), "segment_ids": np.array(IDS, "i4")}
    arrays = jax.tree.map(jnp.asarray, batch)
    rows, places = prompted_rows(arrays, PROMPT, begin=BEGIN, segments=SEGMENTS)
    for row in range(2):
        tokens, ids, expected, at = [], [], [], {}
        for segment in range(1, SEGMENTS + 1):
            own = [i for i, x in enumerate(IDS[row]) if x == segment]
            if not own:
                continue
            words = [TOKENS[row][i] for i in own]
            begins = words[0] == BEGIN
            prompted = [*words[:begins], *PROMPT.tolist(), *words[begins:]]
            for n, i in enumerate(own):
                at[i] = len(tokens) + len(PROMPT) + n
            tokens += prompted
            ids += [segment] * len(prompted)
            expected += range(len(prompted))
        count = len(tokens)
        np.testing.assert_array_equal(rows["tokens"][row, :count], tokens)
        np.testing.assert_array_equal(rows["segment_ids"][row, :count], ids)
        np.testing.assert_array_equal(rows["positions"][row, :count], expected)
        assert not np.any(rows["segment_ids"][row, count:])
        for i, place in at.items():
            assert places[row, i] == place


def test_what_cannot_be_prompted_is_refused():
    with pytest.raises(UserError, match=r"has \d documents, .* room for 1: segments="):
        numbers = np.arange(8)
        require_room(1, made_up.dataset().rows(numbers), numbers)
    inner = runner.EMATeacher()
    with pytest.raises(ValueError, match="prompt must not be empty"):
        PromptedTeacher(teacher=inner, prompt="")
    with pytest.raises(ValueError, match="segments must be at least 1, got 0"):
        PromptedTeacher(teacher=inner, prompt="x", segments=0)


@pytest.mark.slow
def test_the_students_value_is_that_of_the_teacher_on_the_prompted_rows(tmp_path):
    corpus = examples.source(tmp_path / "corpus")
    dataset = fdl.build(corpus).load()
    run = examples.write_run(tmp_path / "run", dataset)
    online = runner.OnlineTeacher(checkpoint=str(run))
    text = "is it so? "
    node = PromptedTeacher(teacher=online, prompt=text, segments=3)
    terms = [LossTerm(name="kd", loss=losses.ForwardKL())]
    experiment = examples.experiment(corpus, node, terms=terms)
    (_, _, values), batch, setup = examples.gradients(experiment)

    # By hand: the teacher's and the student's whole rows, one row at a time.
    prompt = dataset.vocabulary.encode(text)
    teacher, student = setup.step.teacher, setup.initial_state()
    arrays = teacher.read()
    model = teacher.teacher.make(arrays["params"], arrays["variables"])
    own = setup.modules.student(student.params["student"], {})
    total, host = 0.0, jax.device_get(batch)
    for row in range(3):
        one = {name: x[row : row + 1] for name, x in host.items()}
        log_q = jax.nn.log_softmax(own.head(own.trunk(one).hidden)[0])
        longer, places = prompted_rows(
            jax.tree.map(jnp.asarray, one),
            np.asarray(prompt, np.int32),
            begin=dataset.vocabulary.begin,
            segments=3,
        )
        logits = model.head(model.trunk(longer).hidden)[0][places[0]]
        log_p = jax.nn.log_softmax(logits[:, : log_q.shape[-1]])
        total += float(jnp.sum(jnp.sum(jnp.exp(log_p) * (log_p - log_q), -1)))
    experiment = dataclasses.replace(
        experiment, losses=[dataclasses.replace(terms[0], mask=_first_three)]
    )
    (_, _, values), _, _ = examples.gradients(experiment)
    np.testing.assert_allclose(float(values["kd"].total), total, rtol=1e-4)


def _first_three(batch):
    first = jnp.arange(batch["mask"].shape[0]) < 3
    return batch["mask"] & first[:, None]
