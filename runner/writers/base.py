"""A writer for the forms it can hold; the other forms are left out."""

from collections.abc import Mapping
from typing import Any

from runner.writers.clu import metric_writers


class PartialWriter(metric_writers.MetricWriter):
    """A `MetricWriter` whose methods all do nothing: override those that make sense.

    Every kind of value also reaches TensorBoard, so nothing is lost.
    """

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        pass

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        pass

    def write_images(self, step, images) -> None:
        pass

    def write_videos(self, step, videos) -> None:
        pass

    def write_audios(self, step, audios, *, sample_rate) -> None:
        pass

    def write_histograms(self, step, arrays, num_buckets=None) -> None:
        pass

    def write_summaries(self, step, values, metadata=None) -> None:
        pass

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        pass

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass
