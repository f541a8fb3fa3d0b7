"""What one config changes of another, exactly."""

from pathlib import Path

from runner.graph import describe, read

CONFIGS = Path(__file__).parents[2] / "configs"


def changes(old, new, fiddler="", *, of_old=""):
    """Lines from `configs/old.py` to `configs/new.py`, each after its fiddler."""
    before, module = read.read(str(CONFIGS / f"{old}.py"))
    if of_old:
        getattr(module, of_old)(before)
    after, module = read.read(str(CONFIGS / f"{new}.py"))
    if fiddler:
        getattr(module, fiddler)(after)
    return describe.changes(describe.text(before), describe.text(after))


def test_moe_zloss_only_adds_two_z_losses_to_moe():
    assert changes("moe", "moe_zloss") == [
        "- losses: [ce, load_balance]",
        "+ losses: [ce, z_loss, router_z, load_balance]",
        "+ losses.router_z: losses.LossTerm",
        "+ losses.router_z.loss: losses.RouterZLoss",
        "+ losses.router_z.loss.layers: 'mean'",
        "+ losses.router_z.mask: losses.token_mask",
        "+ losses.router_z.token_weight: None",
        "+ losses.router_z.weight: 0.001",
        "+ losses.z_loss: losses.LossTerm",
        "+ losses.z_loss.loss: losses.ZLoss",
        "+ losses.z_loss.mask: losses.target_mask",
        "+ losses.z_loss.token_weight: None",
        "+ losses.z_loss.weight: 0.0001",
    ]


def test_distill_moe_adds_routers_to_learn_from():
    assert changes("distill", "distill_moe", of_old="online") == [
        "- losses: [ce, kd, z_loss, router_z, load_balance]",
        "+ losses: [ce, kd, z_loss, router_z, load_balance, router_kd]",
        "+ losses.router_kd: losses.LossTerm",
        "+ losses.router_kd.loss: losses.RouterDistillation",
        "+ losses.router_kd.loss.layers: None",
        "+ losses.router_kd.loss.temperature: 1.0",
        "+ losses.router_kd.mask: losses.token_mask",
        "+ losses.router_kd.token_weight: None",
        "+ losses.router_kd.weight: 0.1",
        "- teacher.checkpoint: 'runs/teacher'",
        "+ teacher.checkpoint: 'runs/moe_teacher'",
    ]


def test_chat_is_a_smaller_dense_student_of_other_data():
    changed = {line[2:].partition(":")[0] for line in changes("dense", "chat")}
    assert {path for path in changed if "data" not in path} == {
        *("num_steps", "optimizer.learning_rate.decay_steps"),
        *("optimizer.learning_rate.warmup_steps", "student.dim"),
        *("student.num_layers", "student.vocab_size"),
    }
    of_data = {path for path in changed if path.startswith("train_data")}
    assert of_data == {
        "train_data",
        *(f"train_data.{name}" for name in ("begin", "end", "special_tokens")),
        *(f"train_data.{name}" for name in ("records", "template", "variables")),
        *("train_data.date", "train_data.documents", "train_data.documents.split"),
        "train_data.packing",
        "train_data.records.split",
    }


def test_a_bias_takes_the_place_of_the_term():
    found = changes("distill_moe", "distill_moe", "bias_balanced")
    assert found[:2] == [
        "- losses: [ce, kd, z_loss, router_z, load_balance, router_kd]",
        "+ losses: [ce, kd, z_loss, router_z, router_kd]",
    ]
    rest = [x for x in found[2:] if not x.startswith("- losses.load_balance")]
    assert rest == ["- student.mlp.bias_rate: 0.0", "+ student.mlp.bias_rate: 0.001"]


def test_imported_records_are_another_folder():
    assert changes("distill", "import_vllm") == [
        "- teacher.records: 'runs/records'",
        "+ teacher.records: 'runs/imported'",
    ]


def test_a_served_teacher_is_one_node():
    found = changes("distill", "served")
    assert found[:2] == [
        "- teacher: runner.OfflineTeacher",
        "+ teacher: runner.ServedTeacher",
    ]
    assert all(line[2:].startswith("teacher") for line in found)


def test_a_live_teacher_in_place_of_records_is_one_node():
    assert changes("distill", "distill", "online") == [
        "- teacher: runner.OfflineTeacher",
        "+ teacher: runner.OnlineTeacher",
        "+ teacher.checkpoint: 'runs/teacher'",
        "+ teacher.dtype: None",
        "+ teacher.model: None",
        "- teacher.records: 'runs/records'",
        "+ teacher.settings: None",
        "- teacher.teacher: None",
        "+ teacher.tokenizer: None",
    ]


def test_two_heads_only_give_the_teachers_term_a_head_of_its_own():
    found = changes("distill", "distill", "two_heads")
    assert "- losses.kd.loss: losses.ForwardKL" in found
    assert "+ losses.kd.loss: partial(losses.OwnHead)" in found
    assert "+ losses.kd.loss.loss: losses.ForwardKL" in found
    assert all(line[2:].startswith("losses.kd.loss") for line in found)


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


def test_distill_features_only_adds_two_terms_to_distill_with_a_live_teacher():
    assert changes("distill", "distill_features", of_old="online") == [
        "- losses: [ce, kd, z_loss, router_z, load_balance]",
        "+ losses: [ce, kd, features, value_relations, z_loss, router_z, load_balance]",
        "+ losses.features: losses.LossTerm",
        "+ losses.features.loss: partial(losses.Projected)",
        "+ losses.features.loss.loss: losses.FeatureCosine",
        "+ losses.features.loss.loss.layers: ((1, 1), (3, 3))",
        "+ losses.features.loss.loss.of: 'hidden'",
        "+ losses.features.loss.student_dim: 192",
        "+ losses.features.loss.teacher_dim: 192",
        "+ losses.features.mask: losses.token_mask",
        "+ losses.features.token_weight: None",
        "+ losses.features.weight: 1.0",
        "+ losses.value_relations: losses.LossTerm",
        "+ losses.value_relations.loss: losses.Relations",
        "+ losses.value_relations.loss.heads: 4",
        "+ losses.value_relations.loss.layers: ((3, 3),)",
        "+ losses.value_relations.loss.of: 'values'",
        "+ losses.value_relations.mask: losses.token_mask",
        "+ losses.value_relations.token_weight: None",
        "+ losses.value_relations.weight: 1.0",
    ]


def test_distill_balanced_groups_the_teachers_terms_and_has_weights_follow_values():
    found = changes("distill_features", "distill_balanced")
    assert found[:2] == [
        "- losses: [ce, kd, features, value_relations, z_loss, router_z, load_balance]",
        "+ losses: [ce, teacher, z_loss, router_z, load_balance]",
    ]
    inside = {line[2:] for line in found if line.startswith("+ losses.teacher")}
    gone = {
        line[2:].replace("losses.", "losses.teacher.terms.", 1)
        for line in found[2:]
        if line.startswith("- ")
    }
    weights = {line for line in inside if ".weight" in line}
    assert {line for line in gone if ".weight" not in line} == {
        line for line in inside - weights if line.startswith("losses.teacher.terms.")
    }
    assert {line for line in weights if line.endswith("MatchValue")} == {
        "losses.teacher.weight: losses.MatchValue",
        "losses.teacher.terms.features.weight: losses.MatchValue",
        "losses.teacher.terms.value_relations.weight: losses.MatchValue",
    }
    assert "losses.teacher.weight.to: 'ce'" in weights
    assert "losses.teacher.terms.features.weight.to: 'kd'" in weights
