#!/usr/bin/env bash
# orbax-checkpoint 0.12.8 (jax 0.10.2, Python 3.11): a CheckpointManager that keeps the best
# two by loss deletes both after one evaluation whose loss is NaN.
#
# Guess:  NaN is better than nothing: it is kept last of all, as numpy sorts it, and
#         best_step() is the step of the least loss that is a number.
# Seen:   steps are sorted by the loss as Python sorts floats. Each comparison with NaN is
#         false, so what stands on its two sides is never compared, and its place decides:
#         worse and NaN are kept, and the best step is neither. A NaN at the end is itself
#         the best step.
#
#         losses of steps 0 to 3      kept     best_step()
#         1.0  2.0  4.0  3.0          0 1      0
#         1.0  2.0  nan  3.0          2 3      3
#         1.0  2.0  3.0  nan          0 3      3
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet orbax-checkpoint==0.12.8 jax==0.10.2

cat > "$folder/best.py" <<'PYTHON'
import logging
import sys

import numpy as np
import orbax.checkpoint as ocp

logging.disable(logging.CRITICAL)
options = ocp.CheckpointManagerOptions(
    max_to_keep=2,
    best_fn=lambda metrics: metrics["loss"],
    best_mode="min",
    enable_async_checkpointing=False,
)


def kept(losses):
    """The steps that are left after a save of each, and the best of them."""
    folder = f"{sys.argv[1]}/{'-'.join(map(str, losses))}"
    with ocp.CheckpointManager(folder, options=options) as manager:
        for step, loss in enumerate(losses):
            weights = ocp.args.StandardSave({"weights": np.full(2, step)})
            manager.save(step, args=weights, metrics={"loss": loss})
        return sorted(manager.all_steps()), manager.best_step()


nan = float("nan")
seen = [kept([1.0, 2.0, *rest]) for rest in ((4.0, 3.0), (nan, 3.0), (3.0, nan))]
print(*seen, sep="\n")
assert seen == [([0, 1], 0), ([2, 3], 3), ([0, 3], 3)]
PYTHON
"$folder/venv/bin/python" "$folder/best.py" "$folder" 2> "$folder/log" || { cat "$folder/log"; exit 1; }
