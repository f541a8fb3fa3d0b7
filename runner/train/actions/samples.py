"""The hook that writes texts of the student."""

from runner.state.train_state import TrainState
from runner.train.actions.context import HookContext
from runner.train.actions.hook import Hook


def samples(context: HookContext) -> Hook:
    """Write each prompt with the student's continuation, as `samples/<i>`."""

    def write(step: int, *, state: TrainState) -> None:
        context.results.samples = list(context.sample(state))
        texts = {
            f"samples/{i}": f"{sample.prompt}{sample.text}"
            for i, sample in enumerate(context.results.samples)
        }
        context.writer.write_texts(step, texts)

    every = context.config.loop.sample_every
    return context.on_state(write, every=every, doing="sampling")
