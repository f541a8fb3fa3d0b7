"""Values of TRL's own `GRPOTrainer` on fixed log-probabilities and rewards.

    python -m venv venv && venv/bin/pip install torch==2.13.0 trl==1.16.0
    venv/bin/python tests/losses/preference/make_trl_grpo.py

Writes `trl_grpo.npz` beside this file: log-probabilities of tokens, of now and as they
were drawn, a mask, rewards, the advantages of `scale_rewards="group"`; and by loss type
the value and its gradient in the log-probabilities of now, float64.
"""

# Torch and trl are in an environment of their own, which the linters do not see.
# pyright: reportMissingImports=false

import collections
import types
from pathlib import Path

import numpy as np
import torch
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import nanstd

ROWS, TOKENS, GROUP, EPSILON = 8, 6, 4, 0.2
TYPES = ("bnpo", "dapo", "grpo", "dr_grpo")


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    log_q = -np.abs(rng.normal(size=(ROWS, TOKENS), scale=2.0))
    lengths = np.array([6, 3, 5, 1, 6, 2, 4, 6])
    return {
        "log_q": log_q,
        "drawn": log_q + rng.normal(size=log_q.shape, scale=0.3),
        "mask": np.arange(TOKENS) < lengths[:, None],
        "rewards": np.array([1.0, 0.0, 0.5, 1.0, 0.0, 0.0, 0.0, 3.0]),
    }


def advantages(rewards: torch.Tensor) -> torch.Tensor:
    """As `_generate_and_score_completions` has them, with one reward function."""
    groups = rewards.view(-1, GROUP)
    mean = torch.nanmean(groups, dim=1).repeat_interleave(GROUP, dim=0)
    deviation = nanstd(groups, dim=1).repeat_interleave(GROUP, dim=0)
    return (rewards - mean) / (deviation + 1e-4)


def loss(kind: str, log_q: torch.Tensor, stored: dict, drawn: bool) -> torch.Tensor:
    mask = torch.tensor(stored["mask"]).double()
    accelerator = types.SimpleNamespace(
        num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x
    )
    trainer = types.SimpleNamespace(
        loss_type=kind,
        importance_sampling_level="token",
        epsilon_low=EPSILON,
        epsilon_high=EPSILON,
        beta=0.0,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        aux_loss_enabled=False,
        use_vllm=False,
        vllm_importance_sampling_correction=False,
        max_completion_length=TOKENS,
        current_gradient_accumulation_steps=1,
        _entropy_bonus_enabled=False,
        _metrics={"train": collections.defaultdict(list)},
        args=types.SimpleNamespace(delta=None, steps_per_generation=1),
        accelerator=accelerator,
        model=types.SimpleNamespace(training=True),
        _get_per_token_logps_and_entropies=lambda *a, **k: (
            log_q,
            torch.zeros_like(log_q),
            None,
        ),
    )
    ids = torch.zeros(ROWS, TOKENS, dtype=torch.long)
    inputs = {
        "prompt_ids": ids[:, :1],
        "prompt_mask": ids[:, :1] + 1,
        "completion_ids": ids,
        "completion_mask": mask,
        "advantages": advantages(torch.tensor(stored["rewards"])),
        "num_items_in_batch": mask.sum(),
    }
    if drawn:
        inputs["old_per_token_logps"] = torch.tensor(stored["drawn"])
    return GRPOTrainer._compute_loss(trainer, None, inputs)


def main() -> None:
    stored = arrays()
    values = {"advantages": advantages(torch.tensor(stored["rewards"])).numpy()}
    for kind in TYPES:
        for name, drawn in (("", True), ("/fresh", False)):
            log_q = torch.tensor(stored["log_q"], requires_grad=True)
            value = loss(kind, log_q, stored, drawn)
            (slope,) = torch.autograd.grad(value, log_q)
            values[f"{kind}{name}/value"] = value.detach().numpy()
            values[f"{kind}{name}/slope"] = slope.numpy()
    target = Path(__file__).parent / "trl_grpo.npz"
    np.savez_compressed(target, **stored, **values)
    print({name: float(x) for name, x in values.items() if x.ndim == 0})


if __name__ == "__main__":
    main()
