r"""Vision transformer on Fashion-MNIST, cross-entropy alone.

    runner --fdl_config=configs/vision_fashion.py --workdir=/tmp/vision_fashion \
      --fdl.train_data.folder.path=DIR

DIR holds the four idx files of https://github.com/zalandoresearch/fashion-mnist, `.gz`
or not. Time and result are not measured: the files were not at hand.
"""

import functools

import fiddle as fdl
import optax
from fiddle.experimental.auto_config import auto_config

import losses
import models
import runner


@auto_config
def config() -> runner.Experiment:
    folder = runner.data.IdxFolder(
        path="data/fashion_mnist",
        classes=(
            "T-shirt",
            "trouser",
            "pullover",
            "dress",
            "coat",
            "sandal",
            "shirt",
            "sneaker",
            "bag",
            "ankle boot",
        ),
    )
    return runner.Experiment(
        student=functools.partial(
            models.VisionTransformer,
            num_classes=10,
            image_size=(28, 28),
            patch_size=4,
            dim=64,
            num_layers=4,
            num_heads=4,
            # Of the training images.
            pixel_mean=0.286,
            pixel_stddev=0.353,
        ),
        losses=[
            losses.LossTerm(name="ce", loss=losses.CrossEntropy()),
        ],
        train_data=runner.data.IdxImages(folder=folder, split="train"),
        evaluations=[
            runner.Evaluation(
                name="held_out",
                data=runner.data.IdxImages(folder=folder, split="held_out"),
                batch_size=128,
            )
        ],
        optimizer=runner.optimizers.adamw(
            optax.warmup_cosine_decay_schedule(
                init_value=0.0, peak_value=1e-3, warmup_steps=200, decay_steps=4000
            ),
        ),
        num_steps=4000,
        batch_size=128,
    )


def steps(cfg: fdl.Config, num_steps: int):
    """--fiddler='steps(300)': another length, schedule included."""
    cfg.num_steps = num_steps
    cfg.optimizer.learning_rate.decay_steps = num_steps
    cfg.optimizer.learning_rate.warmup_steps = num_steps // 20
