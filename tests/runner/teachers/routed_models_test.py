"""Live teachers by row: outputs, tiles and whole steps are those of each row's own."""

import dataclasses

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import losses
import runner
from losses import LossTerm, TeacherOutputs
from runner import data
from runner.data.dataset import Column
from runner.errors import UserError
from runner.teachers.base import LoadedTeacher, LogitTiles, TeacherTrunk
from runner.teachers.routed import RoutedTeacher
from runner.teachers.routed_models import LoadedRoutedModels
from tests.runner.exchange import teacher as made_up
from tests.runner.teachers import examples

ROWS, LENGTH, SIZE = 5, 3, 7
LOGITS = np.random.default_rng(0).normal(size=(3, ROWS, LENGTH, SIZE)).astype("f4")


class Fixed(LoadedTeacher):
    """A teacher of given logits, which lie in its tokens."""

    def __init__(self, number):
        self._number = number

    def describe(self):
        return {"number": self._number}

    def trunk(self, frozen, ema, batch, *, capture, logits):
        def outputs(head_params, tokens, batch):
            return TeacherOutputs(logits=tokens)

        def tile(head_params, tokens, partition, start, width):
            return tokens[..., start : start + width]

        return TeacherTrunk(
            tokens=jnp.asarray(LOGITS[self._number]),
            head_params={},
            outputs=outputs,
            tiles=LogitTiles(entries=SIZE, width=SIZE, outputs=outputs, logits=tile),
        )


def test_each_row_has_the_logits_of_its_own_model():
    loaded = LoadedRoutedModels("who", {4: Fixed(0), 9: Fixed(1), 6: Fixed(2)})
    who = np.array([9, 4, 6, 9, 6], np.int32)
    batch = {"targets": jnp.zeros((ROWS, LENGTH), jnp.int32), "who": jnp.asarray(who)}
    trunk = loaded.trunk(
        {"4": {}, "9": {}, "6": {}}, {}, batch, capture=frozenset(), logits=True
    )
    member = [{4: 0, 9: 1, 6: 2}[x] for x in who.tolist()]
    expected = LOGITS[member, np.arange(ROWS)]
    actual = trunk.outputs(trunk.head_params, trunk.tokens, batch).logits
    np.testing.assert_array_equal(actual, expected)
    assert trunk.tiles is not None
    tile = trunk.tiles.logits(trunk.head_params, trunk.tokens, None, 2, 3)
    np.testing.assert_array_equal(tile, expected[..., 2:5])


def test_a_row_that_names_no_model_is_refused():
    loaded = LoadedRoutedModels("who", {7: Fixed(0)})
    dataset = made_up.dataset()
    with pytest.raises(UserError, match="the data has no column 'who'"):
        loaded.rows_with_records(dataset)
    values = np.array([7, 7, 9, 7, 7, 7, 7, 7], np.int32)
    dataset = dataset.with_columns({"who": Column(values=values)})
    with pytest.raises(UserError, match=r"row 2: 'who' is 9, which is no teacher's"):
        loaded.rows_with_records(dataset).rows(np.arange(8))


@dataclasses.dataclass(frozen=True)
class WithTeacher(data.DataSource):
    """Data whose rows name two teachers in turn."""

    data: data.DataSource

    def check(self):
        pass

    def load(self, *, cache=""):
        dataset = self.data.load(cache=cache)
        values = (np.arange(len(dataset)) % 2).astype(np.int32)
        return dataset.with_columns({"who": Column(values=values)})


@pytest.mark.slow
def test_a_step_with_two_models_is_that_of_each_on_its_own_rows(tmp_path):
    corpus = examples.source(tmp_path / "corpus")
    dataset = fdl.build(corpus).load()
    models = [
        runner.OnlineTeacher(
            checkpoint=str(examples.write_run(tmp_path / str(i), dataset, seed=i + 1))
        )
        for i in range(2)
    ]
    rows = WithTeacher(fdl.build(corpus))
    terms = [
        LossTerm(
            name=f"kd{i}",
            loss=losses.ForwardKL(),
            mask=losses.ColumnMask(column="who", equals=i),
        )
        for i in range(2)
    ]

    def learned(teacher, terms):
        experiment = examples.experiment(corpus, teacher, terms=terms)
        experiment = dataclasses.replace(experiment, train_data=rows)
        (params, _, values), _, _ = examples.gradients(experiment)
        return params["student"], {n: float(x.compute()) for n, x in values.items()}

    routed = RoutedTeacher(column="who", teachers={0: models[0], 1: models[1]})
    grads, values = learned(routed, terms)
    alone = [learned(models[i], terms[i : i + 1]) for i in range(2)]
    for _, own in alone:
        for name, value in own.items():
            np.testing.assert_allclose(values[name], value, rtol=1e-5)
    total = jax.tree.map(lambda a, b: a + b, alone[0][0], alone[1][0])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        grads,
        total,
    )
