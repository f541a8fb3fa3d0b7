"""What one config changes of another, exactly."""

from pathlib import Path

from runner.graph import base, describe

CONFIGS = Path(__file__).parents[2] / "configs"


def changes(old, new, fiddler=""):
    """Lines from `configs/old.py` to `configs/new.py`, the latter after `fiddler`."""
    before, _ = base.read(str(CONFIGS / f"{old}.py"))
    after, module = base.read(str(CONFIGS / f"{new}.py"))
    if fiddler:
        getattr(module, fiddler)(after)
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


def test_a_live_teacher_in_place_of_records_is_one_node():
    assert changes("distill", "distill", "online") == [
        "- teacher: runner.OfflineTeacher",
        "+ teacher: runner.OnlineTeacher",
        "+ teacher.checkpoint: 'runs/teacher'",
        "+ teacher.dtype: None",
        "+ teacher.model: None",
        "- teacher.records: 'runs/records'",
        "- teacher.teacher: None",
    ]


def test_labels_alone_are_the_same_experiment_without_the_teacher_and_its_term():
    found = changes("distill", "distill", "labels_only")
    assert found[:2] == [
        "- losses: [ce, kd, z_loss, router_z, load_balance]",
        "+ losses: [ce, z_loss, router_z, load_balance]",
    ]
    paths = {line[2:].partition(":")[0] for line in found[2:]}
    assert {path for path in paths if not path.startswith("losses.kd")} == {
        "losses.ce.weight",
        "teacher",
        "teacher.records",
        "teacher.teacher",
    }
