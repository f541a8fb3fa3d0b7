"""Sources of implicit feedback: a file of interactions, or some that are made up."""

import abc
import dataclasses
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from runner.data.dataset import Dataset
from runner.data.interactions import files
from runner.data.interactions.rows import CandidateRows, HeldOutRows, Items
from runner.data.source import DataSource
from runner.errors import UserError, nearest

_SPLITS = ("train", "held_out")


class Pairs(NamedTuple):
    """Who chose what.

    Attributes:
      users: `[n]`, from 0 to below their number, each there.
      items: `[n]`, places in `names`; no pair is twice.
      names: of the items.
    """

    users: np.ndarray
    items: np.ndarray
    names: list[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _OfUsers(DataSource, abc.ABC):
    split: Literal["train", "held_out"] = "train"
    candidates: int = 5
    rows_per_user: int = 1000
    held_out: int = 1
    noise: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.split not in _SPLITS:
            raise UserError(f"split is {self.split!r}{nearest(self.split, _SPLITS)}")
        for name, least in (("candidates", 1), ("rows_per_user", 1), ("held_out", 0)):
            if getattr(self, name) < least:
                raise UserError(
                    f"{name} must be at least {least}, got {getattr(self, name)}"
                )
        if not 0.0 <= self.noise < np.inf:
            raise UserError(f"noise must be 0 or more, got {self.noise}")

    @abc.abstractmethod
    def pairs(self) -> Pairs:
        """Return all interactions.

        Raises:
          UserError: They are not valid.
        """

    def load(self, *, cache: str = "") -> Dataset:
        del cache
        pairs = self.pairs()
        size = len(pairs.names)
        train, held_out = [], []
        for user in range(int(pairs.users.max()) + 1):
            # A user's own: what is held out first, else the noise would move it.
            draws = np.random.default_rng([self.seed, 2, user])
            own = draws.permutation(pairs.items[pairs.users == user])
            last = self.held_out if len(own) > self.held_out else 0
            held_out += [(user, item) for item in own[len(own) - last :]]
            own, every = own[: len(own) - last], own
            others = np.setdiff1d(np.arange(size), every)
            count = min(int(self.noise * len(own)), len(others) - 1)
            if count < 0:
                raise UserError(f"user {user} chose every item: none is a negative")
            train.append(
                np.concatenate([own, draws.choice(others, count, replace=False)])
            )
        of_both: dict[str, Any] = {
            "vocabulary": Items(pairs.names),
            "begins": np.cumsum([0, *map(len, train)]),
            "items": np.concatenate(train).astype(np.int32),
            "seed": self.seed,
            "held_out": self.held_out,
            "description": {"split": self.split, "noise": self.noise},
        }
        if self.split == "train":
            return CandidateRows(
                **of_both, candidates=self.candidates, rows_per_user=self.rows_per_user
            )
        if not held_out:
            raise UserError("held_out is 0, or no user has more items than that")
        return HeldOutRows(**of_both, pairs=np.array(held_out, np.int64))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interactions(_OfUsers):
    """Users and the items that they chose, of a file.

    A row to train on is a user, `candidates` of its items and one item of all others,
    drawn for each row anew: `users`, `targets` and `negatives`, each `[b candidates]`,
    of users in equal shares. A row that is held out is a pair.
    `models.MatrixFactorization` reads them; `losses.BPR` and, around it,
    `losses.OneCandidate` are its losses, `losses.RecallAt` and `losses.NDCGAt` its
    metrics.

    Attributes:
      file: `.csv` with a header, `.npz` of two arrays, or JSON lines.
      user: Field of the users.
      item: Field of the items.
      split: "train", or "held_out".
      candidates: Of a row to train on, without replacement where a user has as many.
      rows_per_user: In an epoch.
      held_out: Interactions of each user that has more, drawn by the seed: the same
        whatever the noise. An evaluation has this number and the seed of its training.
      noise: False positives that are added to the training alone, drawn from a user's
        other items, as a share of its own: of the source's experiments.
      seed: Of what is held out, of the noise and of the rows.

    Source: the sampler of Zhang et al. 2025 (arXiv:2502.00348).

    Raises:
      UserError: A number is out of range, or there is no such split.
    """

    file: str
    user: str = "user"
    item: str = "item"

    def check(self) -> None:
        if not Path(self.file).expanduser().is_file():
            raise UserError(f"no such file of interactions: {self.file}")

    def pairs(self) -> Pairs:
        path = Path(self.file).expanduser()
        columns = files.read(path, [self.user, self.item])
        if not len(columns[0]) or len(columns[0]) != len(columns[1]):
            raise UserError(f"{path}: {len(columns[0])} users, {len(columns[1])} items")
        (_, users), (names, items) = (
            np.unique(x, return_inverse=True) for x in columns
        )
        both = np.unique(np.stack([users, items], axis=1), axis=0)
        return Pairs(both[:, 0], both[:, 1], [str(name) for name in names])


@dataclasses.dataclass(frozen=True, kw_only=True)
class SyntheticInteractions(_OfUsers):
    """Interactions by a known rule, in place of real ones: for trials alone.

    A user chooses `per_user` items without replacement by `softmax(taste · <u, i>)`,
    with u and i of `dim` Gaussian numbers and `<u, i>` of deviation 1. `noise` adds
    false positives to the training, so that their share is known; what is held out is
    clean.

    Attributes:
      num_users: How many.
      num_items: How many.
      per_user: Interactions of each.
      dim: Of the rule.
      taste: How sharp it is.
      split: As of `Interactions`, and so are the fields after it.
      candidates: Likewise.
      rows_per_user: Likewise.
      held_out: Likewise.
      noise: Likewise.
      seed: Likewise.
    """

    num_users: int = 300
    num_items: int = 200
    per_user: int = 20
    dim: int = 8
    taste: float = 4.0

    def check(self) -> None:
        if not 0 < self.per_user < self.num_items:
            raise UserError(
                f"per_user must be 1 to below num_items, got {self.per_user} and "
                f"{self.num_items}"
            )

    def pairs(self) -> Pairs:
        self.check()
        draws = np.random.default_rng([self.seed, 1])
        users, items = (
            draws.normal(size=(count, self.dim)) / self.dim**0.25
            for count in (self.num_users, self.num_items)
        )
        scores = self.taste * users @ items.T + draws.gumbel(
            size=(self.num_users, self.num_items)
        )
        best = np.argsort(-scores, axis=1)[:, : self.per_user]
        of_users = np.repeat(np.arange(self.num_users), self.per_user)
        names = [f"item {number}" for number in range(self.num_items)]
        return Pairs(of_users, best.reshape(-1), names)
