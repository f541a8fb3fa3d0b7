"""The hook that evaluates the student."""

from runner.state.train_state import TrainState
from runner.train.actions.context import HookContext
from runner.train.actions.hook import Hook
from runner.train.actions.periodic import StateHook


def evaluate(context: HookContext) -> Hook:
    """Write `<evaluation>/<metric>` of every evaluation, also before the first step."""

    def write(step: int, *, state: TrainState) -> None:
        for name, evaluation in context.evaluations.items():
            metrics = {k: float(v) for k, v in evaluation(state).items()}
            context.results.evaluations[name] = metrics
            scalars = {f"{name}/{metric}": value for metric, value in metrics.items()}
            context.writer.write_scalars(step, scalars)

    return StateHook(
        write,
        every=context.config.loop.evaluate_every,
        last=context.num_steps,
        # A fresh run is evaluated at step 0 too: the untrained student.
        start=context.start or -1,
        pause=context.pause("evaluating"),
    )
