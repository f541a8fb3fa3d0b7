"""Config of eight steps of a tiny student on what a made-up server says of rows."""

import dataclasses

import fiddle as fdl
import optax

import losses
import models
import runner
from runner import data
from tests.runner.exchange import teacher
from tests.runner.records.sets import VOCABULARY


@dataclasses.dataclass(frozen=True)
class Packed(data.DataSource):
    """The rows that the made-up teacher scores."""

    def check(self):
        pass

    def load(self, *, cache=""):
        return teacher.dataset()


def config() -> fdl.Config:
    return fdl.Config(
        runner.Experiment,
        student=fdl.Partial(
            models.Transformer,
            vocab_size=VOCABULARY.size,
            dim=16,
            num_layers=1,
            num_heads=2,
        ),
        teacher=fdl.Config(
            runner.ServedTeacher, url="http://localhost:1", model="tiny", best=teacher.K
        ),
        losses=[
            fdl.Config(losses.LossTerm, name="kd", loss=fdl.Config(losses.ForwardKL))
        ],
        train_data=fdl.Config(Packed),
        optimizer=fdl.Config(optax.adam, 1e-2),
        num_steps=8,
        batch_size=2,
    )
