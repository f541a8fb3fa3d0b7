"""Rows of implicit feedback: candidates of a user, and pairs that were held out."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from runner.data.dataset import Dataset
from runner.data.labels import Classes
from runner.errors import UserError

FORMAT = 2  # version of the rows' arrays, part of the fingerprint


@dataclasses.dataclass(frozen=True, eq=False)
class Items(Classes):
    """Items that users choose from."""

    @property
    def summary(self) -> str:
        return f"{self.size} items"

    @property
    def student_field(self) -> str:
        return f"num_items={self.size}"

    def describe(self) -> dict[str, Any]:
        return {"size": self.size, "digest": self.digest}


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class _OfUsers(Dataset):
    """Items by user.

    Attributes:
      begins: `[users + 1]`, where the items of each user begin.
      items: `[n]` int32, those chosen in training, user after user.
      held_out: Items of each user, at most, that are not in `items`.
      seed: Of all that is drawn.
      description: Further entries of `describe`.
    """

    begins: np.ndarray
    items: np.ndarray
    held_out: int = 0
    seed: int = 0
    description: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    unit: ClassVar[str] = "pair"

    @property
    def num_users(self) -> int:
        return len(self.begins) - 1

    def chosen(self, user: int) -> np.ndarray:
        """Return the items of a user in training."""
        return self.items[self.begins[user] : self.begins[user + 1]]

    def draws(self, number: int) -> np.random.Generator:
        """Return the numbers drawn for one row: a function of it and the seed alone."""
        return np.random.Generator(np.random.Philox(key=[self.seed, number]))

    def other(self, own: np.ndarray, draws: np.random.Generator) -> int:
        """Return an item that is not of a user's own, drawn from all of them."""
        while (item := int(draws.integers(self.vocabulary.size))) in own:
            pass
        return item

    def describe(self) -> dict[str, Any]:
        return {
            "fingerprint": self.fingerprint,
            "unit": self.unit,
            "rows": len(self),
            "users": self.num_users,
            "vocabulary": self.vocabulary.describe(),
            "held_out": self.held_out,
            "seed": self.seed,
            **self.description,
        }

    def _digest(self, kind: str, *arrays: np.ndarray) -> str:
        header = f"retort interactions {FORMAT} {kind} {self.held_out} {self.seed} "
        parts = (x.astype("<i8") for x in (self.begins, self.items, *arrays))
        return self.digest(f"{header}{self.vocabulary.digest} ", *parts)


def row_of(
    users: np.ndarray, targets: np.ndarray, negatives: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the arrays of rows, each `[b k]`."""
    arrays = {"users": users, "targets": targets, "negatives": negatives}
    return {
        **{name: x.astype(np.int32) for name, x in arrays.items()},
        "mask": np.ones(targets.shape, bool),
        "segment_ids": np.ones(targets.shape, np.int32),
    }


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class CandidateRows(_OfUsers):
    """A user with some of its items, and one that it did not choose, a row.

    Row r is of user `r mod users`: over an epoch, each user as often as any other. The
    candidates of a row stand side by side in it, so that nothing parts them: neither
    blocks, nor microbatches, nor devices, nor processes.

    Attributes:
      candidates: k, without replacement where the user has as many.
      rows_per_user: In an epoch.
    """

    candidates: int
    rows_per_user: int

    @property
    def num_all(self) -> int:
        return self.num_users * self.rows_per_user

    @property
    def targets_per_row(self) -> int:
        return self.candidates

    def read_rows(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Return users, targets, negatives, mask and segment_ids, each `[b k]`."""
        k = self.candidates
        users = numbers % self.num_users
        targets = np.empty((len(numbers), k), np.int32)
        negatives = np.empty(len(numbers), np.int32)
        for at, (number, user) in enumerate(
            zip(numbers.tolist(), users.tolist(), strict=True)
        ):
            draws, own = self.draws(number), self.chosen(user)
            targets[at] = draws.choice(own, k, replace=len(own) < k)
            negatives[at] = self.other(own, draws)
        wide = (np.repeat(x[:, None], k, axis=1) for x in (users, negatives))
        users, negatives = wide
        return row_of(users, targets, negatives)

    def check_held_out(self, held_out: Dataset) -> None:
        if not isinstance(held_out, HeldOutRows):
            return
        for name in ("num_users", "held_out", "seed"):
            here, there = getattr(self, name), getattr(held_out, name)
            if here != there:
                raise UserError(
                    f"data: {name}={there}, and {here} in train_data; wanted: "
                    f"{name}={here}, so that nothing held out is trained on"
                )

    @functools.cached_property
    def fingerprint(self) -> str:
        return self._digest(f"candidates {self.candidates} {self.rows_per_user}")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class HeldOutRows(_OfUsers):
    """A pair of a user and an item that was held out, a row.

    `seen` `[b 1 n]` are the user's items in training, -1 at the end of fewer.

    Attributes:
      pairs: `[rows 2]`, of user and item, in the order of the users.
    """

    pairs: np.ndarray

    @property
    def num_all(self) -> int:
        return len(self.pairs)

    @property
    def targets_per_row(self) -> int:
        return 1

    @functools.cached_property
    def _in_training(self) -> np.ndarray:
        """`[users n]`."""
        counts = np.diff(self.begins)
        lists = np.full((len(counts), max(int(counts.max()), 1)), -1, np.int32)
        lists[np.arange(lists.shape[1]) < counts[:, None]] = self.items
        return lists

    def _own(self, user: int) -> np.ndarray:
        """Return the items of a user, in training and held out."""
        begin, end = np.searchsorted(self.pairs[:, 0], [user, user + 1])
        return np.concatenate([self.chosen(user), self.pairs[begin:end, 1]])

    def read_rows(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Return users, targets, negatives, mask, segment_ids `[b 1]`, and seen."""
        users, targets = self.pairs[numbers].T
        negatives = [
            self.other(self._own(user), self.draws(number))
            for number, user in zip(numbers.tolist(), users.tolist(), strict=True)
        ]
        arrays = (users, targets, np.array(negatives, np.int32))
        rows = row_of(*(x.reshape(-1, 1) for x in arrays))
        return {**rows, "seen": self._in_training[users][:, None]}

    @functools.cached_property
    def fingerprint(self) -> str:
        return self._digest("held out", self.pairs)
