"""TRL's preference losses on fixed log-probabilities, for `tests/losses/preference`.

    python -m venv v && v/bin/pip install trl==0.19.1 transformers==4.53.3 \
        accelerate==1.8.1 datasets==3.6.0 torch
    v/bin/python tests/parity/preference.py

Writes `trl.json` there: the log-probabilities; by case, its value a pair or completion,
and the gradient of their sum in the student's log-probabilities, float64.
"""

# These libraries are in an environment that the linters do not see.
# pyright: reportMissingImports=false

import json
from pathlib import Path
from types import SimpleNamespace

import torch
import trl
from trl.trainer.cpo_trainer import CPOTrainer
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.orpo_trainer import ORPOTrainer

TARGET = Path(__file__).parents[1] / "losses" / "preference" / "trl.json"
SUMS = {
    "chosen": [-12.5, -40.0, -3.25, -88.0, -20.0, -7.0],
    "rejected": [-30.0, -38.5, -3.25, -60.0, -20.5, -9.0],
    "reference_chosen": [-14.0, -35.0, -3.25, -90.0, -20.0, -6.0],
    "reference_rejected": [-28.0, -39.0, -3.25, -61.5, -19.0, -9.5],
}
MEANS = {
    "chosen": [-0.7, -1.9, -0.01, -4.0, -1.2, -0.05],
    "rejected": [-2.5, -1.7, -0.01, -3.0, -1.3, -0.6],
    "reference_chosen": [-0.8, -1.6, -0.01, -4.1, -1.2, -0.04],
    "reference_rejected": [-2.3, -1.8, -0.01, -3.1, -1.1, -0.7],
}
ACCELERATOR = SimpleNamespace(device="cpu", gather_for_metrics=lambda x: x)


def dpo(inputs, **settings):
    trainer = SimpleNamespace(
        accelerator=ACCELERATOR,
        reference_free=False,
        f_divergence_type="reverse_kl",
        f_divergence_params=None,
        **settings,
    )
    return DPOTrainer.dpo_loss(trainer, *inputs)[0]


def simpo(inputs, **settings):
    trainer = SimpleNamespace(accelerator=ACCELERATOR, loss_type="simpo", **settings)
    return CPOTrainer.cpo_loss(trainer, *inputs[:2])[0]


def odds_ratio(inputs):
    trainer = SimpleNamespace(accelerator=ACCELERATOR, beta=1.0)
    return -ORPOTrainer.odds_ratio_loss(trainer, *inputs[:2])[0]


def kto(inputs, **settings):
    """The first sequences desirable, the second not; z from the difference of both."""
    trainer = SimpleNamespace(
        accelerator=ACCELERATOR, loss_type="kto", calculate_KL=True, **settings
    )
    chosen, rejected, reference_chosen, reference_rejected = inputs
    return KTOTrainer.kto_loss(
        trainer,
        chosen,
        rejected,
        rejected.detach() + 3.0,
        reference_chosen,
        reference_rejected,
        reference_rejected,
    )[0]


def case(function, arrays, **settings):
    """Values, and gradients in the student's log-probabilities."""
    inputs = [torch.tensor(x, dtype=torch.float64) for x in arrays.values()]
    for x in inputs[:2]:
        x.requires_grad_()
    values = function(inputs, **settings)
    values.sum().backward()
    return {
        "values": values.tolist(),
        "chosen": inputs[0].grad.tolist(),
        "rejected": inputs[1].grad.tolist(),
    }


def main():
    plain = {"beta": 0.1, "label_smoothing": 0.0}
    cases = {
        "dpo": case(dpo, SUMS, loss_type="sigmoid", **plain),
        "cdpo": case(dpo, SUMS, loss_type="sigmoid", beta=0.3, label_smoothing=0.1),
        "delta": case(dpo, MEANS, loss_type="sigmoid", beta=5.0, label_smoothing=0.0),
        "ipo": case(dpo, MEANS, loss_type="ipo", **plain),
        "hinge_dpo": case(dpo, SUMS, loss_type="hinge", **plain),
        "simpo": case(simpo, MEANS, simpo_gamma=0.5, beta=2.0, label_smoothing=0.0),
        "odds_ratio": case(odds_ratio, MEANS),
        "kto": case(kto, SUMS, beta=0.1, desirable_weight=1.0, undesirable_weight=1.5),
    }
    fixture = {"trl": trl.__version__, "sums": SUMS, "means": MEANS, "cases": cases}
    TARGET.write_text(json.dumps(fixture, indent=1) + "\n")


if __name__ == "__main__":
    main()
