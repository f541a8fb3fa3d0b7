"""The evaluations of a run, measured again at its checkpoints: `--evaluate`."""

from runner import atomic_files
from runner.checkpoint import best
from runner.checkpoint.checkpoints import Checkpoints
from runner.errors import UserError, nearest
from runner.experiment import Experiment
from runner.graph.job import Job
from runner.machine import out_of_memory
from runner.measuring import measured
from runner.measuring.row import Measured
from runner.workdir.workdir import Workdir

FOLDER = "evaluation"
"""Below the work directory: the run itself is left alone."""


def evaluate(job: Job, workdir: Workdir, name: str = "") -> None:
    """Measure the newest checkpoint of a run, and the best where one is kept.

    All rows are read. Writes `evaluation/result.json` and its page, and prints a table.

    Args:
      job: The run's.
      workdir: Read without its lock, so that a run may go on meanwhile.
      name: Of the evaluation; "" for all.

    Raises:
      UserError: The job is no experiment, has no such evaluation, or no checkpoint.
    """
    if not isinstance(job, Experiment):
        raise UserError(f"--evaluate: a {type(job).__name__} has no student")
    names = [evaluation.name for evaluation in job.evaluations]
    if name and name not in names:
        raise UserError(f"--evaluate={name}: no such evaluation{nearest(name, names)}")
    if not names:
        raise UserError("--evaluate: the graph has no evaluations")
    with (
        out_of_memory.explained(),
        Checkpoints(workdir.checkpoints, keep=1) as checkpoints,
    ):
        newest = checkpoints.latest_verified()
        if newest is None:
            raise UserError(f"{workdir.path} holds no whole checkpoint")
        choice = best.of_memories(checkpoints.memories(newest))
        steps = {"newest": newest, "best": choice.step if choice else None}
        setup = job.prepare()
        rows, models = [], {}
        for label, step in steps.items():
            if step is None or step in [x["step"] for x in models.values()]:
                continue
            model = f"{label} (step {step})"
            state = checkpoints.restore(step, setup.step.state)
            for one in [name] if name else names:
                metrics = setup.evaluate(one, state, whole=True)
                rows.append(Measured(model, one, metrics))
            models[model] = {"step": step}
    print(measured.text(rows))
    if workdir.writes:
        directory = workdir.path / FOLDER
        directory.mkdir(exist_ok=True)
        text = (workdir.path / "config.txt").read_text()
        atomic_files.write_atomic(directory / "config.txt", text)
        print(f"\n  page: {measured.write(directory, rows, models)}")
