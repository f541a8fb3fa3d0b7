"""The job that writes a run's student as a model that other programs load."""

import dataclasses
from pathlib import Path
from typing import Any

from runner.checkpoint.presence import require_checkpoints
from runner.errors import UserError, nearest
from runner.graph.job import Job

FORMATS = ("hf", "gguf", "peft")
DTYPES = ("float32", "bfloat16", "float16", "quantized")
BEST = "best"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export(Job):
    """Write the student of a run as a new directory.

    Attributes:
      workdir: of the run.
      to: the directory, which must not be there; "" is `export` in the work directory
        of this job.
      step: of the checkpoint; None is the newest whole one, `"best"` the one that
        `Experiment.keep_best` chose.
      format: `"hf"`: `config.json`, safetensors and tokenizer files, for transformers;
        `"gguf"`: one file for llama.cpp; both with adapters in the kernels.
        `"peft"`: the adapters alone, of a `models.LoRA`.
      dtype: type of the weights; "" is that of the run's parameters. `"quantized"`, of
        format gguf: kernels of a `models.Quantized` as Q8_0 or Q4_0.
      average: an average of the weights that the run kept (`runner.averages`); "" is
        the weights themselves.

    Raises:
      UserError: `step`, `format` or `dtype` is none of these.
    """

    workdir: str
    to: str = ""
    step: int | str | None = None
    format: str = "hf"
    dtype: str = ""
    average: str = ""

    def __post_init__(self):
        for field, choices in (("format", FORMATS), ("dtype", ("", *DTYPES))):
            value = getattr(self, field)
            if value not in choices:
                raise UserError(
                    f"{field} must be one of {', '.join(filter(None, choices))}, "
                    f"got {value!r}{nearest(value, filter(None, choices))}"
                )
        if self.dtype == "quantized" and self.format != "gguf":
            raise UserError(
                f"dtype 'quantized' is of format gguf; {self.format} has the same "
                "values as numbers of the parameters' type"
            )
        if isinstance(self.step, str) and self.step != BEST:
            raise UserError(f"step must be a number or {BEST!r}, got {self.step!r}")

    def check(self) -> None:
        require_checkpoints(self.workdir)
        if self.to:
            _refuse_existing(Path(self.to).expanduser())

    def run(self, workdir: Any) -> None:
        """Write the directory, whole or not at all.

        Raises:
          UserError: the model or its tokenizer has no form there, or the disk is full.
        """
        if workdir.writes:
            workdir.record_start()
            print(self.write(workdir.path / "export"))

    def write(self, default: Path | None = None) -> str:
        """Write the directory; return a line that says so.

        Args:
          default: the directory where `to` is "".

        Raises:
          UserError: see `run`.
        """
        # Jax and the formats wait until here.
        from runner.export import new_directory, student
        from runner.export.plan import plan

        to = Path(self.to).expanduser() if self.to else default
        assert to is not None
        self.check()
        _refuse_existing(to)
        model = student.read(self.workdir, self.step, self.average)
        # All that the format cannot say is refused here, before anything is written.
        planned = plan(
            model, format=self.format, dtype=self.dtype, name=to.absolute().name
        )
        try:
            with new_directory.written(to) as folder:
                planned.write(folder)
        except ValueError as error:
            raise UserError(f"{to} is not written: {error}") from error
        summary = f"{planned.family}, step {model.step:,}, {planned.dtype}"
        return f"{to}: {summary}\n{planned.how_to(to)}"


def _refuse_existing(to: Path) -> None:
    if to.exists() or to.is_symlink():
        raise UserError(f"to: {to} is there already; name a directory that is not")
