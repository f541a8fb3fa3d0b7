"""Dataset of images and their classes, in memory."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from runner.data.dataset import Baseline, Dataset
from runner.data.labels import Classes
from runner.data.repeats import Repeats, repeated
from runner.errors import UserError

FORMAT = 1  # version of the rows' arrays, part of the fingerprint


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Images(Dataset):
    """Images, one a row.

    Attributes:
      images: `[n h w c]`, float32 in [0, 1] or unsigned bytes.
      labels: `[n]` integers, ids of classes.
      vocabulary: The classes.
      description: Further entries of `describe`.

    Raises:
      UserError: Images or labels have another type, a label is not the id of a class,
        or there is not one label per image.
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
        _check_type("images", self.images, self.images.dtype in (np.float32, np.uint8))
        _check_type("labels", self.labels, self.labels.dtype.kind in "iu")
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

    def read_rows(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Return images `[b h w c]`; targets, mask, segment_ids `[b]`."""
        return {
            "images": self.images[numbers],
            "targets": self.labels[numbers],
            "mask": np.ones(len(numbers), bool),
            "segment_ids": np.ones(len(numbers), np.int32),
        }

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of pixels, labels, the names of classes and the selection of rows."""
        header = f"{self.vocabulary.digest} {self.images.dtype} {self.images.shape}"
        return self.digest(
            f"retort images {FORMAT} {header} ",
            self.images,
            self.labels.astype("<i4"),
        )

    def describe(self) -> dict[str, Any]:
        return {
            "fingerprint": self.fingerprint,
            "unit": self.unit,
            "rows": len(self),
            "shape": list(self.images.shape[1:]),
            "vocabulary": self.vocabulary.describe(),
            **self.description,
        }

    def repeats(self, held_out: Dataset) -> Repeats | None:
        """Return the images that are equal, pixel by pixel, whatever their labels."""
        if not isinstance(held_out, Images):
            return None
        numbers = [np.arange(len(data)) for data in (self, held_out)]
        train, test = (
            data.rows(rows)["images"]
            for data, rows in zip((self, held_out), numbers, strict=True)
        )
        if train.dtype != test.dtype or train.shape[1:] != test.shape[1:]:
            return None
        both = repeated(train, test)
        if not len(both):
            return None
        return Repeats(len(both), len(test), "image", f"row {both[0]}")

    def baselines(self, held_out: Dataset) -> list[Baseline]:
        """Return class frequencies, and the class of the nearest mean image."""
        assert isinstance(held_out, Images)
        train, test = (data.rows(np.arange(len(data))) for data in (self, held_out))
        labels, targets = train["targets"], test["targets"]

        # Frequencies, one added to each so that no class has probability zero.
        counts = np.bincount(labels, minlength=self.vocabulary.size)
        probabilities = (counts + 1) / (counts + 1).sum()
        frequencies = Baseline(
            "class frequencies",
            nats_per_token=float(-np.log(probabilities[targets]).mean()),
            accuracy=float(np.mean(targets == counts.argmax())),
        )

        # Nearest mean, by |x - m|² less |x|², which is the same for all classes.
        train_pixels, test_pixels = _flatten(train["images"]), _flatten(test["images"])
        classes = np.flatnonzero(counts)
        means = np.stack([train_pixels[labels == i].mean(axis=0) for i in classes])
        distances = np.square(means).sum(axis=1) - 2 * test_pixels @ means.T
        predictions = classes[distances.argmin(axis=1)]
        accuracy = float(np.mean(predictions == targets))
        return [frequencies, Baseline("nearest mean", accuracy=accuracy)]


def _flatten(images: np.ndarray) -> np.ndarray:
    """Return `[n h·w·c]` float64."""
    return images.reshape(len(images), math.prod(images.shape[1:])).astype(np.float64)


def _check_type(name: str, array: np.ndarray, is_valid: bool) -> None:
    """Refuse pixels of whole numbers that are no bytes, and labels that are none.

    Raises:
      UserError: With the type.
    """
    wanted = {"images": "float32 in [0, 1] or uint8", "labels": "integers"}
    if not is_valid:
        raise UserError(f"{name} must be {wanted[name]}, got {array.dtype}")
