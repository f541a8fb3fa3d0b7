"""Actions of the training loop, one a file; `runner.train.hooks` lists them in order.

To add one, write a factory here and name it in `runner.train.hooks.HOOKS`:

    def embedding_norm(context: HookContext) -> Hook:
        def write(step: int, *, state: TrainState) -> None:
            norm = jnp.linalg.norm(state.params["student"]["embedding"])
            context.writer.write_scalars(step, {"norms/embedding": float(norm)})

        return context.on_state(write, every=100, doing="measuring norms")
"""
