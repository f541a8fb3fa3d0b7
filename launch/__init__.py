"""From one command to many machines.

    python -m launch TARGET [OPTIONS] -- RUNNER_FLAGS

A target is a file: its `Options`, a pure function `render(spec, options)` to the text
that its scheduler reads, and the commands that hand that text over. `local` runs the
processes itself. What was run for real and what is rendered only: docs/launching.md.
"""
