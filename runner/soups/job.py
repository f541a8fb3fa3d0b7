"""The job that mixes the weights of runs into one student."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from models import checks
from runner.errors import UserError
from runner.experiment import Experiment
from runner.machine import out_of_memory
from runner.weights import location
from runner.weights.location import Location
from runner.workdir.workdir import Workdir

Rule = Literal["uniform", "greedy", "learned", "learned_by_layer"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Soup(Experiment):
    """An experiment whose student is a mean of the weights of its runs.

    Nothing is trained: the work directory has a checkpoint of the mean, and all that
    reads a run (evaluation, export, a teacher, a start) reads it. The runs began from
    the same weights: means of others are worth nothing.

    * `"uniform"`: the mean of all;
    * `"greedy"`: in the order of their held-out losses, each is mixed in if the loss of
      the mean falls by it. So it is never worse than the best run on that data, which
      should not be the test data;
    * `"learned"`: `Σ_i α_i θ_i`, with `α = softmax(a)` and a scale β of the logits
      learned by gradient on that data, `argmin_{a,β} Σ_j ℓ(β f(x_j; Σ_i α_i θ_i), y_j)`
      from equal shares and β = 1. The soup is without β, which `soup_shares.json` has;
    * `"learned_by_layer"`: the same with an α for every array of the student.

    Learning holds all runs, and the logits of a held-out batch, at once.

    Source: Wortsman et al. 2022 (arXiv:2203.05482), recipe 1 and appendix I. As in the
    released code a run joins where the mean is strictly better, and an α of one layer
    is one of each array. Its rate and epochs are the defaults.

    Attributes:
      runs: `DIR`, `DIR@STEP` or `DIR@best`; that of a sweep is all its finished units.
      rule: How they are mixed.
      by: The evaluation whose loss is compared; "" is the first.
      rate: Of Adam, where α is learned.
      epochs: Passes over the held-out data, where α is learned.

    Raises:
      ValueError: There is no run, rule or evaluation of that name, or a number is not
        positive.
    """

    runs: Sequence[str]
    rule: Rule = "greedy"
    by: str = ""
    rate: float = 0.05
    epochs: int = 5

    def __post_init__(self):
        super().__post_init__()
        names = [evaluation.name for evaluation in self.evaluations]
        if not self.runs or isinstance(self.runs, str):
            raise ValueError(f"runs must be a list of work directories: {self.runs!r}")
        if self.rule not in get_args(Rule):
            known = ", ".join(get_args(Rule))
            raise ValueError(f"rule must be one of {known}, got {self.rule!r}")
        checks.positive(rate=self.rate, epochs=self.epochs)
        if not names:
            raise ValueError("a soup is compared on held-out data: give an evaluation")
        if self.by and self.by not in names:
            raise ValueError(f"by must be one of {', '.join(names)}, got {self.by!r}")

    def check(self) -> None:
        super().check()
        for where in self.ingredients():
            location.check(where)

    def ingredients(self) -> list[Location]:
        """Return the checkpoints to mix; a sweep's finished units in its order.

        Raises:
          UserError: A sweep has no finished unit.
        """
        places = []
        for text in self.runs:
            folder = Path(text).expanduser()
            if not (folder / "sweep.json").is_file():
                places.append(location.parse(text))
                continue
            finished = sorted(folder.glob("units/*/result.json"))
            if not finished:
                raise UserError(f"{text}: no unit of this sweep is finished")
            places += [Location(str(path.parent)) for path in finished]
        return places

    def run(self, workdir: Workdir) -> None:
        """Mix the runs, measure the mean, and write it as a run's checkpoint."""
        from runner.machine import distributed
        from runner.soups import learning, mixing

        with distributed.together(), out_of_memory.explained():
            mixing.write(
                self.prepare(),
                self.ingredients(),
                workdir,
                rule=self.rule,
                by=self.by or self.evaluations[0].name,
                plan=learning.Plan(
                    rate=self.rate,
                    epochs=self.epochs,
                    by_layer=self.rule == "learned_by_layer",
                ),
            )
