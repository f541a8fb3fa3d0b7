"""Functions for `--fiddler` that serve every experiment."""

from collections.abc import Sequence

import fiddle as fdl

from runner.starts.continued import Continued
from runner.starts.published import Published
from runner.starts.run import Run
from runner.weights import opening
from runner.weights.published import PublishedWeights
from runner.weights.run import Step


def longer(cfg: fdl.Config, steps: int, of: str) -> None:
    """--fiddler='longer(steps=400, of="DIR")': the run in DIR, to be so long.

    Weights, optimiser, step and place in the data are those of its newest checkpoint.
    """
    cfg.num_steps = steps
    cfg.start = fdl.Config(Continued, workdir=of)


def start_from(cfg: fdl.Config, path: str, step: Step = None) -> None:
    """--fiddler='start_from("DIR")': the weights of a run or of a published model.

    Args:
      cfg: the graph.
      path: of the work directory, the folder or the file.
      step: of the run's checkpoint; `"best"`, or None for the newest.

    Raises:
      UserError: there is neither.
    """
    if opening.find(path) is PublishedWeights:
        cfg.start = fdl.Config(Published, path=path)
    else:
        cfg.start = fdl.Config(Run, workdir=path, step=step)


def soup(
    cfg: fdl.Config, of: str | Sequence[str], rule: str = "greedy", by: str = ""
) -> None:
    """--fiddler='soup("runs/sweep")': the mean of runs' weights in place of training.

    Args:
      cfg: the graph, that of the runs.
      of: a sweep's directory, or a list of runs.
      rule: as of `runner.Soup`.
      by: as of `runner.Soup`.
    """
    from runner.soups.job import Soup

    fdl.update_callable(cfg, Soup)
    cfg.runs = [of] if isinstance(of, str) else list(of)
    cfg.rule, cfg.by = rule, by
