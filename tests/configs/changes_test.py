"""What one config changes of another, exactly."""

from pathlib import Path

from runner.graph import base, describe

CONFIGS = Path(__file__).parents[2] / "configs"


def changes(old, new):
    """Lines from `configs/old.py` to `configs/new.py`."""
    before, after = (base.read(str(CONFIGS / f"{name}.py"))[0] for name in (old, new))
    return describe.changes(describe.text(before), describe.text(after))


def test_moe_zloss_only_adds_two_z_losses_to_moe():
    assert changes("moe", "moe_zloss") == [
        "- losses: [ce, load_balance]",
        "+ losses: [ce, z_loss, router_z, load_balance]",
        "+ losses.router_z: losses.LossTerm",
        "+ losses.router_z.loss: losses.RouterZLoss",
        "+ losses.router_z.mask: losses.target_mask",
        "+ losses.router_z.token_weight: None",
        "+ losses.router_z.weight: 0.001",
        "+ losses.z_loss: losses.LossTerm",
        "+ losses.z_loss.loss: losses.ZLoss",
        "+ losses.z_loss.mask: losses.target_mask",
        "+ losses.z_loss.token_weight: None",
        "+ losses.z_loss.weight: 0.0001",
    ]
