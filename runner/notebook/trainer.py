"""An experiment in a notebook, trained a step or a hundred at a time."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import fiddle as fdl
import jax
import numpy as np
from matplotlib.figure import Figure

from models import Transformer
from models.decoding.draws import Draws
from runner import runtime
from runner.checkpoint.checkpoints import Checkpoints
from runner.data.text.vocabulary import Vocabulary
from runner.errors import UserError, nearest
from runner.experiment import Experiment
from runner.graph import build
from runner.notebook import figures
from runner.sampling.continuing import continuations
from runner.sampling.text_model import TextModel
from runner.state.train_state import TrainState
from runner.step.metrics import fetch
from runner.workdir import opening


class Trainer:
    """An experiment, trained a step or a hundred at a time.

    The same batches, draws and updates as those of the command `runner`: what is saved
    after 10 steps goes on there to the same bits. A context manager; without `with`,
    `close` ends the threads that read the data.

        trainer = runner.Trainer(cfg)
        trainer.run(10)["learning/total"]
        trainer.evaluate()["held_out"]["loss"]
        trainer.sample("def f(")
        trainer.save("runs/by_hand")

    Attributes:
      state: Parameters, the optimiser's state and the number of finished steps. May be
        replaced.
    """

    state: TrainState

    def __init__(
        self,
        experiment: Experiment | fdl.Buildable,
        config: runtime.Runtime | None = None,
    ):
        """Read the data and make the state before the first step.

        Args:
          experiment: Or its graph, as a config file's `config.as_buildable()` gives it;
            `save` needs the graph.
          config: The runtime settings; by default as gin has them bound.

        Raises:
          UserError: The graph is wrong, or its parts do not fit each other.
        """
        self._graph = experiment if isinstance(experiment, fdl.Buildable) else None
        job = experiment if self._graph is None else build.job(self._graph)
        if not isinstance(job, Experiment):
            raise UserError(f"a Trainer trains an Experiment, not {type(job).__name__}")
        job.check()
        self._run = job.prepare(config)
        self._run.trace()
        self._start = self._run.load_start(None)
        self.state = self._run.initial_state(self._start)
        self._batches: Any = None
        self._next = -1  # the step after which the open batches go on
        self._rows: list[tuple[int, Mapping[str, float]]] = []

    def step(self) -> Mapping[str, float]:
        """Take one step, and return its metrics by the names in `metrics.jsonl`.

        Raises:
          UserError: The last step of the experiment is done.
        """
        return {name: float(values[0]) for name, values in self.run(1).items()}

    def run(self, num_steps: int) -> Mapping[str, np.ndarray]:
        """Take some steps, and return their metrics: an array `[num_steps]` by name.

        Raises:
          UserError: There are not so many steps left.
        """
        begin, last = int(self.state.step), self._run.num_steps
        if not 0 < num_steps <= last - begin:
            raise UserError(
                f"{num_steps} steps after step {begin}: the experiment has "
                f"num_steps={last}, {last - begin} are left"
            )
        taken_before = len(self._rows)
        self._rows.extend(self._steps(begin, num_steps))
        return _columns(self._rows[taken_before:])

    @property
    def metrics(self) -> Mapping[str, np.ndarray]:
        """Metrics of all steps taken here, `[steps]` by name, beside their `step`.

        NaN where a step has no such metric.
        """
        return _columns(self._rows)

    def evaluate(self) -> Mapping[str, Mapping[str, float]]:
        """Return the metrics of every evaluation, by its name, over all its rows."""
        return {
            name: self._run.evaluate(name, self.state, whole=True)
            for name in self._run.evaluators
        }

    def sample(
        self,
        prompt: str | Sequence[str],
        *,
        num_tokens: int = 64,
        draws: Draws | None = None,
        seed: int = 0,
    ) -> str | list[str]:
        """Return what the student writes after a prompt, or after each of several.

        Args:
          prompt: A text, or several.
          num_tokens: Tokens after each, at most.
          draws: Which token is next; the most probable one by default.
          seed: Of the draws.

        Raises:
          UserError: The student or the data is not of text.
        """
        texts = [prompt] if isinstance(prompt, str) else list(prompt)
        written = [
            one.text
            for one in continuations(
                self._author(),
                texts,
                num_tokens=num_tokens,
                draws=draws or Draws(),
                seed=seed,
                batch_size=max(1, len(texts)),
            )
        ]
        return written[0] if isinstance(prompt, str) else written

    def plot(self, *names: str) -> Figure:
        """Return a picture of metrics over steps; of `learning/total` by default.

        Raises:
          UserError: There is no such metric, with the nearest one.
        """
        metrics = self.metrics
        for name in names:
            if name not in metrics:
                raise UserError(f"no metric {name!r}{nearest(name, metrics)}")
        lines = names or ("learning/total",)
        return figures.over_steps({n: (metrics["step"], metrics[n]) for n in lines})

    def save(self, directory: str | Path) -> None:
        """Save graph and state as a work directory.

        `runner --workdir=DIR` goes on from it; `--evaluate`, `runner-export` and
        `starts.Run` read it.

        Raises:
          UserError: The directory holds something else, or cannot be written; or the
            trainer was made without a graph.
        """
        if self._graph is None:
            raise UserError(
                "save needs the graph: make the Trainer of a fdl.Config, not of an "
                "Experiment"
            )
        argv = ["runner", f"--workdir={directory}"]
        keep = self._run.config.loop.keep_checkpoints
        with (
            opening.open_workdir(directory, self._graph, argv) as workdir,
            Checkpoints(workdir.checkpoints, keep=keep) as checkpoints,
        ):
            workdir.record_start()
            workdir.record_data(self._run.describe_data())
            workdir.record_vocabulary(self._run.dataset.vocabulary.files())
            if self._start is not None:
                workdir.record_weights(self._start.describe())
            checkpoints.save(int(self.state.step), self.state)

    def close(self) -> None:
        """End the threads that read the data; the next step starts them again."""
        if self._batches is not None:
            self._batches.close()
        self._batches = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _steps(
        self, begin: int, num_steps: int
    ) -> Iterator[tuple[int, Mapping[str, float]]]:
        """Yield the number and the metrics of each step.

        A step is dispatched before the metrics of the one before it are read.
        """
        leaves, unread = jax.tree.leaves(self.state), None
        for number in range(begin + 1, begin + num_steps + 1):
            batch = self._batch(number - 1)
            batch, written = self._run.with_rollouts(leaves, batch)
            leaves, metrics = self._run.step(leaves, batch)
            metrics = {**metrics, **written}
            # The old leaves are gone with the step, so the new ones stand at once.
            self.state = self._run.step.unflatten(leaves)
            if unread is not None:
                yield unread[0], fetch(unread[1])
            unread = number, metrics
        if unread is not None:
            yield unread[0], fetch(unread[1])

    def _batch(self, after: int) -> Any:
        if self._batches is None or self._next != after:
            self.close()
            self._batches = self._run.batches(start=after)
        self._next = after + 1
        return next(self._batches)

    def _author(self) -> TextModel:
        student = self._run.modules.student(
            self.state.params["student"], self.state.variables["student"]
        )
        vocabulary = self._run.dataset.vocabulary
        if not (
            isinstance(student, Transformer) and isinstance(vocabulary, Vocabulary)
        ):
            raise UserError(f"a {type(student).__name__} of this data writes no text")
        return TextModel(
            model=student,
            vocabulary=vocabulary,
            begin=(vocabulary.begin,),
            ends=(vocabulary.end,),
            context=None,
            mesh=self._run.mesh,
            rules=self._run.config.mesh.rules,
        )


def _columns(
    rows: Sequence[tuple[int, Mapping[str, float]]],
) -> Mapping[str, np.ndarray]:
    names = dict.fromkeys(name for _, metrics in rows for name in metrics)
    columns = {
        name: np.array([metrics.get(name, math.nan) for _, metrics in rows])
        for name in names
    }
    return {"step": np.array([step for step, _ in rows], int), **columns}
