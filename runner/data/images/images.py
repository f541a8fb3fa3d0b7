"""Images and their classes, held in memory."""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from runner.data.dataset import Baseline, Dataset
from runner.data.labels import Classes
from runner.errors import UserError

FORMAT = 1  # of rows


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Images(Dataset):
    """A row an image.

    images: `[n h w c]`, float32 in [0, 1] or unsigned bytes.
    labels: `[n]` int32, ids of classes.

    Raises:
      UserError: a label is none of the classes, or there is not one an image.
    """

    images: np.ndarray
    labels: np.ndarray
    vocabulary: Classes  # pyright: ignore[reportIncompatibleVariableOverride] - narrower
    description: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    unit: ClassVar[str] = "image"

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise UserError(
                f"{len(self.images):,} images and {len(self.labels):,} labels"
            )
        if not len(self.labels):
            raise UserError("the data holds no images at all")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= self.vocabulary.size:
            raise UserError(
                f"labels reach from {low} to {high}, for {self.vocabulary.summary}"
            )

    @property
    def num_all(self) -> int:
        return len(self.images)

    @property
    def targets_per_row(self) -> int:
        return 1

    def numbered(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Images `[b h w c]`; targets, mask, segment_ids `[b]`."""
        return {
            "images": self.images[numbers],
            "targets": self.labels[numbers],
            "mask": np.ones(len(numbers), bool),
            "segment_ids": np.ones(len(numbers), np.int32),
        }

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of pixels, labels, the names of classes and the choice of rows."""
        made = f"{self.vocabulary.digest} {self.images.dtype} {self.images.shape}"
        hashed = hashlib.blake2b(digest_size=16)
        hashed.update(f"retort images {FORMAT} {made} ".encode())
        hashed.update(np.ascontiguousarray(self.images).data)
        hashed.update(self.labels.astype("<i4").tobytes())
        if self.chosen is not None:
            hashed.update(b" rows " + self.chosen.astype("<i8").tobytes())
        return hashed.hexdigest()

    def describe(self) -> dict[str, Any]:
        return {
            "fingerprint": self.fingerprint,
            "unit": self.unit,
            "rows": len(self),
            "shape": list(self.images.shape[1:]),
            "vocabulary": self.vocabulary.describe(),
            **self.description,
        }

    def baselines(self, held_out: Dataset) -> list[Baseline]:
        """What labels alone tell, and the class whose mean image is nearest."""
        assert isinstance(held_out, Images)
        ours, theirs = (data.rows(np.arange(len(data))) for data in (self, held_out))
        targets, count = theirs["targets"], self.vocabulary.size
        seen = np.bincount(ours["targets"], minlength=count)
        chances = (seen + 1) / (seen + 1).sum()
        frequent = Baseline(
            "class frequencies",
            nats_per_token=float(-np.log(chances[targets]).mean()),
            accuracy=float(np.mean(targets == seen.argmax())),
        )
        pixels, wanted = (_flat(rows["images"]) for rows in (ours, theirs))
        known = np.flatnonzero(seen)
        means = np.stack([pixels[ours["targets"] == i].mean(axis=0) for i in known])
        # |x - m|² less |x|², which is the same for all classes.
        distances = np.square(means).sum(axis=1) - 2 * wanted @ means.T
        found = known[distances.argmin(axis=1)]
        nearest = Baseline("nearest mean", accuracy=float(np.mean(found == targets)))
        return [frequent, nearest]


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), math.prod(images.shape[1:])).astype(np.float64)
