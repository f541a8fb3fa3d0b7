"""The work directory of a run.

    config.txt  config.json  config.py     the graph: to read, to load, to rebuild
    command.txt                            every start: time, place and command line
    versions.json  operative.gin           software and settings of the last start
    data.json                              fingerprints of the data
    costs.json                             what a step takes in
    start.json                             where the first weights came from
    tokenizer.json                         the student's tokenizer
    metrics.jsonl  events/  report.html    the results
    checkpoints/                           states to continue from
    modules.json                           modules of others that the graph names
    lock                                   held while a run writes here

A run goes on only on the data that it began with, and under the graph
(`runner.workdir.opening`).
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runner import atomic_files
from runner.errors import UserError
from runner.files import form
from runner.machine import versions

_SHOWN_CHANGES = 20


@dataclasses.dataclass(frozen=True)
class Workdir:
    """An open work directory; `Path(workdir)` is its path.

    Attributes:
      path: absolute path.
      writes: False on all but the first of several processes.
      begin_anew: True to begin at step 0 where every checkpoint is damaged.
      command: The command that goes on with the run; empty for the plain one.
    """

    path: Path
    writes: bool = True
    begin_anew: bool = False
    command: str = ""

    @property
    def checkpoints(self) -> Path:
        """The directory for `Checkpoints`."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """The file of the JSON-lines writer."""
        return self.path / "metrics.jsonl"

    @property
    def events(self) -> Path:
        """The directory of TensorBoard's events."""
        return self.path / "events"

    @property
    def go_on(self) -> str:
        """The command that goes on with the run."""
        return self.command or f"runner --workdir={self.path}"

    def __fspath__(self) -> str:
        return str(self.path)

    def record_start(self) -> list[str]:
        """Write what this start runs on, once devices and runtime are known.

        Returns:
          A line for each version, flag and device that the run did not begin with.

        Raises:
          UserError: `versions.json` is damaged.
        """
        import gin

        now = {**versions.software(), "devices": versions.devices()}
        if not self.writes:
            return []
        path = self.path / "versions.json"
        last: dict[str, Any] = {}
        with form.of_file(path):
            last = form.read(dict[str, Any], path)
        # Before its first step a run has no devices written.
        began = last.get("began", last if "devices" in last else now)
        if not isinstance(began, Mapping):
            raise UserError(f"{path} is damaged: began must be an object")
        write_json(path, {**now, "began": began})
        operative = gin.operative_config_str()
        atomic_files.write_atomic(self.path / "operative.gin", operative)
        return versions.differences(began, now)

    def record_data(self, description: Mapping[str, Any]) -> None:
        """Write the fingerprints of the data, or compare them with those written.

        Args:
          description: nested mappings of JSON values, such as
            `{"train": {"fingerprint": "5be1", "sequences": 812}}`. Of a part that has a
            `fingerprint`, this alone is compared: the rest describes it.

        Raises:
          UserError: the run began on other data; names what differs.
        """
        from runner.graph import describe

        if not self.writes:
            return
        path = self.path / "data.json"
        began = None
        with form.of_file(path):
            began = form.read(dict[str, Any], path)
        if began is None:
            return write_json(path, description)
        if not _same_data(began, description):
            changes = describe.changes(_lines(began), _lines(description))
            raise UserError(
                f"the data changed since {self.path} began:\n"
                f"{format_changes(changes)}\n"
                "Give the new data another --workdir, or bring the old data back."
            )

    def record_costs(self, *, targets_per_step: int, flops_per_step: int) -> None:
        """Write what a step takes in, as it is cut at this start.

        Args:
          targets_per_step: tokens, or images, of a global batch.
          flops_per_step: matmul FLOPs, on all devices.
        """
        if self.writes:
            costs = {
                "targets_per_step": targets_per_step,
                "flops_per_step": flops_per_step,
            }
            write_json(self.path / "costs.json", costs)

    def began_from(self) -> dict[str, Any] | None:
        """Return what `record_weights` wrote; None for a run that has not begun.

        Raises:
          UserError: the file is damaged.
        """
        path = self.path / "start.json"
        with form.of_file(path):
            return form.read(dict[str, Any], path)
        return None

    def record_weights(self, description: Mapping[str, Any]) -> None:
        """Write where the first weights are from, or compare it with what was written.

        Args:
          description: nested mappings of JSON values.

        Raises:
          UserError: the run began from other weights; names what differs.
        """
        from runner.graph import describe

        if not self.writes:
            return
        began = self.began_from()
        if began is None:
            return write_json(self.path / "start.json", description)
        changes = describe.changes(_lines(began), _lines(description))
        if changes:
            raise UserError(
                f"the start changed since {self.path} began, and there is no "
                f"checkpoint to go on from:\n{format_changes(changes)}\n"
                "Give the new start another --workdir, or bring the old one back."
            )

    def record_vocabulary(self, contents: Mapping[str, str]) -> None:
        """Write its `tokenizer.json`, if it has one: a student may teach later."""
        for name, definition in contents.items():
            path = self.path / name
            if self.writes and not path.exists():
                atomic_files.write_atomic(path, definition)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object, its keys sorted, at once or not at all."""
    atomic_files.write_atomic(
        path, json.dumps(content, indent=1, sort_keys=True) + "\n"
    )


def format_changes(changes: Sequence[str]) -> str:
    """Return the first changes, a line each, and how many more there are."""
    more = len(changes) - _SHOWN_CHANGES
    lines = [line if len(line) <= 160 else line[:157] + "..." for line in changes]
    return "\n".join(
        lines[:_SHOWN_CHANGES] + ([f"(and {more} more)"] if more > 0 else [])
    )


def _same_data(began: Any, now: Any) -> bool:
    """Return True if two descriptions are equal wherever it matters."""
    if not (isinstance(began, Mapping) and isinstance(now, Mapping)):
        return json.dumps(began, sort_keys=True) == json.dumps(now, sort_keys=True)
    if "fingerprint" in began and "fingerprint" in now:
        return began["fingerprint"] == now["fingerprint"]
    return began.keys() == now.keys() and all(
        _same_data(began[name], now[name]) for name in began
    )


def _lines(tree: Any, path: str = "") -> str:
    """Return nested mappings as the lines of a described graph, `path: value`."""
    if not isinstance(tree, Mapping):
        return f"{path}: {json.dumps(tree, sort_keys=True)}\n"
    dot = "." if path else ""
    return "".join(_lines(inner, f"{path}{dot}{name}") for name, inner in tree.items())
