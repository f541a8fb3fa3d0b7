"""CLU's writers and periodic actions, without TensorFlow.

`clu.metric_writers` imports TensorFlow (1.4 GB, 8-30 s) for one class, although CLU
does not declare it (CommonLoopUtils pull request 358). That class lives in the module
`clu.metric_writers.summary_writer`, so `runner.writers.tensorboard` stands in for the
module before anything imports the package. Its class must be complete by then:
`clu.metric_writers.utils` binds the class at import.

Import `metric_writers` and `periodic_actions` from here, never from `clu`.
"""

import sys

from runner.writers import tensorboard
from runner.writers.tensorboard import SummaryWriter

sys.modules.setdefault("clu.metric_writers.summary_writer", tensorboard)

# Only now: these imports are what the line above must come before.
from clu import metric_writers, periodic_actions  # noqa: E402

metric_writers.MetricWriter.register(SummaryWriter)

__all__ = ["SummaryWriter", "metric_writers", "periodic_actions"]
