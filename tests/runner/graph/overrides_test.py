"""Overrides on the sample graph. Their error messages: tests/runner/main_test.py."""

from pathlib import Path

import fiddle as fdl
import pytest

import losses
import models
from runner.errors import UserError
from runner.graph import describe, nodes, overrides, paths, read
from runner.graph.overrides import Fiddle, Set, SetTag

SAMPLE = str(Path(__file__).parents[1] / "sample.py")


@pytest.fixture
def sample():
    return read.read(SAMPLE)


def changed(sample, *steps):
    cfg, module = sample
    return overrides.apply(cfg, steps, module=module)


def lines(sample, *steps):
    return describe.lines(changed(sample, *steps))


def test_a_field_takes_a_literal(sample):
    assert changed(sample, Set("num_steps", "7")).num_steps == 7


def test_the_graph_given_is_left_alone(sample):
    changed(sample, Set("num_steps", "7"), Set("losses.ce.weight", "3"))
    assert describe.text(sample[0]) == describe.text(read.read(SAMPLE)[0])


@pytest.mark.parametrize("path", ["losses[1]", "losses[-1]", "losses.z_loss"])
def test_an_item_is_reached_by_position_and_by_name(sample, path):
    cfg = changed(sample, Set(f"{path}.weight", "2"))
    assert (cfg.losses[0].weight, cfg.losses[1].weight) == (1.0, 2.0)


@pytest.mark.parametrize("path", ["options.a", "options['a']", 'options["a"]'])
def test_a_key_of_a_mapping_is_reached(sample, path):
    assert changed(sample, Set(path, "5")).options == {"a": 5}


def test_a_positional_argument_is_reached(sample):
    cfg = changed(sample, Set("optimizer[1].learning_rate", "1e-2"))
    assert cfg.optimizer[1].learning_rate == 0.01


def test_a_node_may_become_none_where_its_type_says_so(sample):
    assert changed(sample, Set("source.path", "None")).source.path is None


def test_fields_of_an_nnx_module_are_known_and_typed(sample):
    student = changed(sample, Set("student.num_heads", "2")).student
    assert fdl.build(student).keywords["num_heads"] == 2
    with pytest.raises(UserError, match="did you mean 'num_heads'"):
        changed(sample, Set("student.num_head", "2"))


def test_a_field_of_a_default_object_is_set_on_a_copy(sample):
    cfg = changed(sample, Set("source.order", "shuffled"))
    assert fdl.build(cfg.source).order == "shuffled"
    assert sample[1].Source().order == "file"


def test_a_field_of_a_class_that_is_called_later_is_set(sample):
    cfg = changed(sample, Set("student.mlp.hidden_dim", "96"))
    assert fdl.get_callable(cfg.student.mlp) is models.GatedMLP
    assert fdl.build(cfg.student.mlp).keywords == {"hidden_dim": 96}


def test_an_item_of_a_tuple_is_set():
    cfg = fdl.Config(dict, pair=(1, 2))
    overrides.set_path(cfg, "pair[1]", "5")
    assert cfg.pair == (1, 5)


def test_a_tag_reaches_every_field_that_carries_it(sample):
    found = lines(sample, SetTag("DType", "bfloat16"))
    assert found["student.dtype"] == "'bfloat16'"
    assert found["student.param_dtype"] == "'float32'"
    assert lines(sample, SetTag("models.tags.DType", "bfloat16")) == found


def test_a_fiddler_changes_in_place_or_returns_another_graph(sample):
    assert changed(sample, Fiddle("bigger(factor=3)")).num_steps == 30
    assert changed(sample, Fiddle("bigger")).num_steps == 20
    assert len(changed(sample, Fiddle("without('ce')")).losses) == 1


def test_a_fiddler_sees_the_tags_of_nnx_modules(sample):
    assert changed(sample, Fiddle("half")).student.dtype == "float16"


def test_a_fiddler_may_stand_in_another_file(sample):
    cfg = overrides.apply(sample[0], [Fiddle(f"{SAMPLE}:bigger(factor=4)")])
    assert cfg.num_steps == 40


def test_everything_applies_from_left_to_right(sample):
    five, double = Set("num_steps", "5"), Fiddle("bigger(2)")
    assert changed(sample, five, double).num_steps == 10
    assert changed(sample, double, five).num_steps == 5
    without, weight = Fiddle("without('z_loss')"), Set("losses.z_loss.weight", "1")
    changed(sample, weight, without)
    with pytest.raises(UserError, match="z_loss"):
        changed(sample, without, weight)
    dtype = Set("student.dtype", "float16")
    assert changed(sample, SetTag("DType", "x"), dtype).student.dtype == "float16"
    assert changed(sample, dtype, SetTag("DType", "x")).student.dtype == "x"


def test_nothing_is_ever_added(sample):
    for path in ("losses.new.weight", "losses[2]", "options.b", "new", "student.new"):
        with pytest.raises(UserError):
            changed(sample, Set(path, "1"))


def test_a_hint_survives_names_that_only_type_checkers_see():
    def function(count: int, other):
        pass

    function.__annotations__["other"] = "Unknown"
    cfg = fdl.Config(function, count=1)
    overrides.set_path(cfg, "count", "2")
    with pytest.raises(UserError, match="expected int"):
        overrides.set_path(cfg, "count", "x")
    with pytest.raises(UserError, match="expected Unknown"):
        overrides.set_path(cfg, "other", "3")


def test_items_without_names_of_their_own_are_numbered():
    twins = [fdl.Config(losses.LossTerm, name="ce"), fdl.Config(losses.LossTerm)]
    assert nodes.item_names(twins) is None
    twins[1].name = "ce"
    assert nodes.item_names(twins) is None
    twins[1].name = "other"
    assert nodes.item_names(twins) == ["ce", "other"]


@pytest.mark.parametrize("path", sorted(describe.lines(read.read(SAMPLE)[0]))[1:])
def test_every_path_that_is_printed_can_be_typed(sample, path):
    cfg, _ = sample
    before = describe.lines(cfg)
    place = paths.find(cfg, path)
    assert place.path == path
    if place.value is None or isinstance(place.value, (bool, int, float, str)):
        overrides.set_path(cfg, path, before[path])
        assert describe.lines(cfg) == before
