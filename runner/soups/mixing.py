"""Means of the weights of runs, chosen by their held-out loss."""

import dataclasses
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from runner import atomic_files
from runner.checkpoint.checkpoints import Checkpoints
from runner.errors import UserError
from runner.soups import learning
from runner.soups.ingredients import Ingredient, table
from runner.state.train_state import TrainState
from runner.train import final_report
from runner.train.actions.context import Results
from runner.train.setup import Setup
from runner.weights import location
from runner.weights.location import Location
from runner.workdir import opening
from runner.workdir.workdir import Workdir
from runner.writers import Failures
from runner.writers.terminal import Terminal

Tree = Any
Read = Callable[[Location], Tree]
Loss = Callable[[Tree], float]


def write(
    setup: Setup,
    runs: Sequence[Location],
    workdir: Workdir,
    *,
    rule: str,
    by: str,
    plan: learning.Plan,
) -> None:
    """Mix the runs and write the mean as the last checkpoint of a run.

    Args:
      setup: of the experiment; nothing is trained.
      runs: the checkpoints.
      workdir: of the soup.
      rule: as `Soup.rule`.
      by: the evaluation whose loss is compared.
      plan: of the learning, where the shares of the runs are learned.
    """
    terminal = Terminal(None if workdir.writes else io.StringIO())
    for line in workdir.record_start():
        terminal.print(line)
    if opening.has_checkpoints(workdir.path):
        terminal.print(f"{workdir.path} holds its soup already")
        return
    workdir.record_data(setup.describe_data())
    workdir.record_vocabulary(setup.dataset.vocabulary.files())

    # Of the state, the student alone comes from the runs.
    rules = setup.config.mesh.rules
    empty = setup.modules.create(setup.seed, setup.mesh, rules)
    empty = dataclasses.replace(empty, step=jnp.int32(setup.num_steps))

    def read(where: Location) -> Tree:
        weights = location.open_at(where)
        vocabulary = setup.dataset.vocabulary
        weights.check_vocabulary(vocabulary, cache=setup.config.input.cache)
        return weights.read(student_of(setup.step.state))

    def loss(student: Tree) -> float:
        return setup.evaluate(by, with_student(empty, student), whole=True)["loss"]

    # The soup, its checkpoint and the report of a run.
    learned = None
    if rule in ("uniform", "greedy"):
        soup, ingredients = mix(runs, read, loss, greedy=rule == "greedy")
    else:
        students = [read(where) for where in runs]
        losses = [loss(student) for student in students]
        ingredients = [
            Ingredient(str(where), own) for where, own in zip(runs, losses, strict=True)
        ]
        refuse_unusable(ingredients, enough=all)
        soup, learned = learning.learn(setup, by, students, plan)
        for one, share in zip(ingredients, learned.of_runs(), strict=True):
            one.mixed, one.share = True, share
    state = with_student(empty, soup)
    with Checkpoints(workdir.checkpoints, keep=1) as checkpoints:
        checkpoints.save(setup.num_steps, state)
    failures = Failures(terminal)
    if workdir.writes:
        content = [dataclasses.asdict(one) for one in ingredients]
        path = workdir.path / "soup.json"
        atomic_files.write_atomic(path, json.dumps(content, indent=1) + "\n")
        if learned is not None:
            path = workdir.path / "soup_shares.json"
            content = dataclasses.asdict(learned)
            atomic_files.write_atomic(path, json.dumps(content, indent=1) + "\n")
    terminal.print(table(ingredients))
    final_report.finish(setup, workdir, state, Results(), terminal, failures)


def mix(
    runs: Sequence[Location], read: Read, loss: Loss, *, greedy: bool
) -> tuple[Tree, list[Ingredient]]:
    """Return the mean of the runs that are mixed, and all of them, the best first.

    Args:
      runs: the checkpoints.
      read: reads the student of one.
      loss: of a student, on held-out data.
      greedy: whether one is mixed in only if the loss of the mean falls by it; one
        whose own loss is not finite never is.

    Raises:
      UserError: a loss is not finite, and no other run is left to choose.
    """
    ingredients = [Ingredient(str(where), loss(read(where))) for where in runs]
    usable = [math.isfinite(one.loss) for one in ingredients]
    order = sorted(range(len(runs)), key=lambda i: (not usable[i], ingredients[i].loss))
    refuse_unusable(ingredients, enough=any if greedy else all)
    soup, mixed, best = None, 0, float("inf")
    for index in filter(usable.__getitem__, order):
        one, student = ingredients[index], read(runs[index])
        if soup is None:
            soup, mixed, best, one.mixed = student, 1, one.loss, True
            continue
        candidate = mean_with(soup, student, mixed)
        if greedy:
            one.loss_with = with_it = loss(candidate)
            if not with_it < best:
                continue
            best = with_it
        soup, mixed, one.mixed = candidate, mixed + 1, True
    return soup, [ingredients[index] for index in order]


def refuse_unusable(
    ingredients: Sequence[Ingredient], *, enough: Callable[[Sequence[bool]], bool]
) -> None:
    """Refuse runs whose loss is not finite, unless `enough` others are left.

    Raises:
      UserError: With the first of them.
    """
    usable = [math.isfinite(one.loss) for one in ingredients]
    if not enough(usable):
        one = ingredients[usable.index(False)]
        raise UserError(f"the held-out loss of {one.run} is {one.loss}: leave it out")


@jax.jit
def mean_with(mean: Tree, more: Tree, count: jax.Array | int) -> Tree:
    """Return the mean of `count + 1` students from that of `count` and one more.

    Of equal students it is these, bit for bit. Sums are float32; integers stay.
    """

    def mixed(mean: jax.Array, x: jax.Array) -> jax.Array:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return mean
        wide, new = mean.astype(jnp.float32), x.astype(jnp.float32)
        share = 1.0 / (jnp.float32(count) + 1.0)
        return (wide + share * (new - wide)).astype(mean.dtype)

    return jax.tree.map(mixed, mean, more)


def student_of(state: TrainState) -> dict[str, Tree]:
    """Return the student's part of a train state."""
    return {"params": state.params["student"], "variables": state.variables["student"]}


def with_student(state: TrainState, student: Mapping[str, Tree]) -> TrainState:
    """Return a train state with another student."""
    return dataclasses.replace(
        state,
        params={**state.params, "student": student["params"]},
        variables={**state.variables, "student": student["variables"]},
    )
