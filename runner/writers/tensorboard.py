"""TensorBoard event files behind CLU's `MetricWriter`."""

import os
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from absl import logging
from tensorboardX import summary as summaries
from tensorboardX.proto import event_pb2, summary_pb2
from tensorboardX.record_writer import masked_crc32c

from runner.files import confined

# These modules make their classes when they are imported: unseen by a type checker.
Event: Any = vars(event_pb2)["Event"]
SessionLog: Any = vars(event_pb2)["SessionLog"]
Summary: Any = vars(summary_pb2)["Summary"]

PART_BYTES = 64 * 2**20  # of a file of events, or of lines, before the next is begun

if TYPE_CHECKING:  # cannot be imported before `runner.writers.clu` has run
    from clu.metric_writers.interface import MetricWriter
else:  # Joined to CLU's interface in `runner.writers.clu`; not importable before it.
    MetricWriter = object


class SummaryWriter(MetricWriter):
    """TensorBoard event files behind CLU's `MetricWriter`.

    Every event is one unbuffered write of one whole record, so a killed run leaves a
    readable file. `start_step` is the step a resumed run continues after: TensorBoard
    then drops what the file before it holds of later steps. A file of `part_bytes` is
    followed by another. `results` are the scalars beside the hyper-parameters.
    """

    def __init__(
        self,
        logdir: str,
        *,
        start_step: int = 0,
        part_bytes: int = PART_BYTES,
        results: Sequence[str] = (),
    ):
        self._logdir, self._part_bytes = Path(logdir), part_bytes
        self._results = results
        self._logdir.mkdir(parents=True, exist_ok=True)
        self._file = self._open()
        self._append(Event(file_version="brain.Event:2"))
        start = SessionLog(status=SessionLog.START)
        self._append(Event(session_log=start, step=start_step + 1))

    def _open(self) -> BinaryIO:
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"
        return confined.open_to_append(self._logdir / name)

    def _write(self, event: Any) -> None:
        if os.fstat(self._file.fileno()).st_size >= self._part_bytes:
            full, self._file = self._file, self._open()
            full.close()
            self._append(Event(file_version="brain.Event:2"))
        self._append(event)

    def _append(self, event: Any) -> None:
        event.wall_time = time.time()
        data = event.SerializeToString()
        header = struct.pack("<Q", len(data))
        confined.append_whole(
            self._file,
            header
            + struct.pack("<I", masked_crc32c(header))
            + data
            + struct.pack("<I", masked_crc32c(data)),
        )

    def _summarize(self, step: int, parts: list[Any]) -> None:
        if values := [value for part in parts for value in part.value]:
            self._write(Event(step=int(step), summary=Summary(value=values)))

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Write all scalars of a call in one event."""
        parts = [summaries.scalar(k, np.asarray(v)) for k, v in scalars.items()]
        self._summarize(step, parts)

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Write texts; TensorBoard shows them as Markdown."""
        self._summarize(step, [summaries.text(k, v) for k, v in texts.items()])

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        """Write images `[N, H, W, C]` or `[H, W, C]`, float in [0, 1] or uint8."""
        parts = []
        for name, image in images.items():
            image = np.asarray(image)
            if image.ndim == 3:
                parts.append(summaries.image(name, image, dataformats="HWC"))
            else:
                for i, one in enumerate(image):
                    parts.append(summaries.image(f"{name}/{i}", one, dataformats="HWC"))
        self._summarize(step, parts)

    def write_histograms(
        self,
        step: int,
        arrays: Mapping[str, Any],
        num_buckets: Mapping[str, int] | None = None,
    ) -> None:
        """Write histograms of the finite entries; 30 buckets unless said otherwise."""
        parts = []
        for name, array in arrays.items():
            array = np.asarray(array, np.float64)
            finite = array[np.isfinite(array)]
            if finite.size:
                buckets = (num_buckets or {}).get(name) or 30
                parts.append(summaries.histogram(name, finite, bins=buckets))
        self._summarize(step, parts)

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Write booleans, numbers and texts for TensorBoard's tab of that name."""
        metrics = dict.fromkeys(self._results, 0.0)  # of which only the names go out
        self._summarize(0, list(summaries.hparams(dict(hparams), metrics)))

    def write_summaries(self, step, values, metadata=None) -> None:
        """Leave them out, and say so once."""
        _unsupported("raw summaries")

    def write_videos(self, step, videos) -> None:
        """Leave them out, and say so once."""
        _unsupported("videos")

    def write_audios(self, step, audios, *, sample_rate) -> None:
        """Leave them out, and say so once."""
        _unsupported("audio")

    def flush(self) -> None:
        """Do nothing: writes are unbuffered."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _unsupported(what: str) -> None:
    logging.log_first_n(logging.WARNING, "TensorBoard writer: %s left out", 1, what)
