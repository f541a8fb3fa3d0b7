"""An experiment of a package outside of the clone, with a module beside it."""

import functools

import ownhook
import ownlab
from fiddle.experimental.auto_config import auto_config

import losses
import runner


@auto_config
def config() -> runner.Experiment:
    numbers = ownlab.Numbers()
    return runner.Experiment(
        student=functools.partial(ownlab.Bigram, vocab_size=270),
        losses=[
            losses.LossTerm(name="focal", loss=ownlab.Focal(gamma=1.0)),
            losses.LossTerm(
                name="odd", loss=losses.CrossEntropy(), mask=ownlab.odd_targets
            ),
        ],
        train_data=numbers,
        evaluations=[
            runner.Evaluation(
                name="held_out",
                data=ownlab.Numbers(9),
                batch_size=8,
                metrics=[ownlab.Certainty()],
            )
        ],
        optimizer=ownlab.momentum(ownlab.halving(1.0, 10)),
        hooks=[ownhook.Enough(calls=8, every=3)],
        writers=[ownhook.Lines()],
        num_steps=40,
        batch_size=8,
    )
