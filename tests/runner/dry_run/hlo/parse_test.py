"""What compilers for TPUs write, read from excerpts in their form."""

import pytest

from runner.dry_run.hlo import collectives, loops, parse

TEXT = """HloModule jit_step, num_partitions=8

%start.1 (p: f32[4]) -> (f32[4], f32[8]) {
  %p = f32[4]{0:T(128)} parameter(0)
  ROOT %all-gather.1 = f32[8]{0:T(128)} all-gather(%p), channel_id=7, replica_groups=[2,4]<=[8], dimensions={0}
}

%piece.1 (p.1: f32[4]) -> f32[8] {
  %p.1 = f32[4]{0:T(128)} parameter(0)
  ROOT %all-gather.2 = f32[8]{0:T(128)} all-gather(%p.1), channel_id=7, replica_groups=[2,4]<=[8], dimensions={0}
}

%body (arg: (f32[4], /*index=1*/u32[])) -> (f32[4], u32[]) {
  %arg = (f32[4]{0:T(128)}, /*index=1*/u32[]{:T(128)}) parameter(0)
  %gte.0 = f32[4]{0:T(128)} get-tuple-element(%arg), index=0
  %gte.1 = u32[]{:T(128)} get-tuple-element(%arg), index=1
  %copy.1 = u32[]{:T(128)} copy(%gte.1)
  %two = u32[]{:T(128)} constant(2)
  %next = u32[]{:T(128)} add(%copy.1, %two)
  %fusion.1 = f32[8]{0:T(128)} fusion(%gte.0), kind=kCustom, calls=%piece.1
  %permute = f32[4]{0:T(128)} collective-permute(%gte.0), channel_id=8, source_target_pairs={{0,4},{4,0}}
  ROOT %tuple.1 = (f32[4]{0:T(128)}, /*index=1*/u32[]{:T(128)}) tuple(%permute, %next)
}

%condition (arg.1: (f32[4], /*index=1*/u32[])) -> pred[] {
  %arg.1 = (f32[4]{0:T(128)}, /*index=1*/u32[]{:T(128)}) parameter(0)
  %gte.2 = u32[]{:T(128)} get-tuple-element(%arg.1), index=1
  %limit = u32[]{:T(128)} constant(9)
  ROOT %lt = pred[]{:T(512)} compare(%gte.2, %limit), direction=LT
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %x = f32[4]{0:T(128)} parameter(0)
  %zero = u32[]{:T(128)} constant(0)
  %copy.2 = u32[]{:T(128)} copy(%zero)
  %async-collective-start.3 = (f32[4]{0}, f32[8]{0}) fusion(%x), kind=kCustom, calls=%start.1
  %tuple.2 = (f32[4]{0:T(128)}, /*index=1*/u32[]{:T(128)}) tuple(%x, %copy.2)
  %while.4 = (f32[4]{0:T(128)}, /*index=1*/u32[]{:T(128)}) while(%tuple.2), condition=%condition, body=%body
  ROOT %out = f32[4]{0:T(128)} get-tuple-element(%while.4), index=0
}
"""  # noqa: E501 - a line of HLO is a line
MESH = {"data": 2, "fsdp": 4}


def test_trips_without_a_note_follow_from_condition_start_and_step():
    module = parse.parse(TEXT)
    main = module.computations[module.entry]
    assert loops.trips(module, main, main.instructions["while.4"]) == 5


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ("direction=LT", "direction=GT"),
        ("constant(9)", "parameter(1)"),
        ("copy(%zero)", "copy(%unknown)\n  %unknown = u32[] parameter(1)"),
        ("add(%copy.1, %two)", "multiply(%copy.1, %two)"),
        ("index=1\n  %copy.1", "index=0\n  %copy.1"),
    ],
)
def test_where_one_of_these_is_no_constant_trips_are_not_known(written, instead):
    assert TEXT.count(written) >= 1
    module = parse.parse(TEXT.replace(written, instead))
    main = module.computations[module.entry]
    assert loops.trips(module, main, main.instructions["while.4"]) is None


def test_a_collective_in_pieces_counts_once_where_it_starts():
    gathers, permutes = collectives.of(TEXT, MESH)[::-1]
    assert (gathers.kind, gathers.count, gathers.bytes) == ("all-gather", 1, 32)
    assert (permutes.kind, permutes.count, permutes.bytes) == (
        "collective-permute",
        5,
        5 * 16,
    )
    assert gathers.axes == ("fsdp",) and permutes.axes == ("data",)


def test_a_start_gives_its_operand_beside_the_result():
    asynchronous = (
        "ENTRY %main (x: f32[4]) -> f32[8] {\n"
        "  %x = f32[4]{0} parameter(0)\n"
        "  %s = (f32[4]{0}, f32[8]{0}) all-gather-start(%x), channel_id=1, "
        "replica_groups=[4,2]<=[2,4]T(1,0)\n"
        "  ROOT %d = f32[8]{0} all-gather-done(%s)\n}\n"
    )
    assert collectives.of(asynchronous, MESH) == [
        collectives.Collective("all-gather", ("data",), 2, 1, 32)
    ]


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        ("f32[2,3]{1,0:T(8,128)(2,1)S(1)}", 24),
        ("bf16[]", 2),
        ("(f32[4]{0}, /*index=1*/(s32[2]{0}, pred[3]{0}))", 16 + 8 + 3),
        ("f8e4m3fn[16]", 16),
        ("s4[8]", 4),
        ("c64[2]", 16),
        ("token[]", 0),
    ],
)
def test_bytes_of_a_shape(shape, count):
    assert parse.num_bytes(shape) == count


def test_elements_of_a_tuple():
    shape = "(f32[4]{0:T(128)}, (s32[2], pred[]), u32[])"
    assert list(parse.parts(shape)) == ["f32[4]{0:T(128)}", "(s32[2], pred[])", "u32[]"]
