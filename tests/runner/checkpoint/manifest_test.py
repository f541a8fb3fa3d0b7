import json
import os
import random
import shutil

import pytest

from runner.checkpoint import manifest
from runner.checkpoint.checkpoints import Checkpoints
from runner.errors import UserError
from tests.runner.states import abstract, array_file, assert_bits, content, flip_a_bit


@pytest.fixture
def saved(tmp_path):
    """Steps 10 and 20, closed; the directory."""
    with Checkpoints(tmp_path / "c", keep=2) as checkpoints:
        checkpoints.save(10, content(10))
        checkpoints.save(20, content(20))
    return tmp_path / "c"


def truncate(checkpoint):
    os.truncate(array_file(checkpoint), array_file(checkpoint).stat().st_size - 1)


def edit(change):
    """A fault of the manifest: `change` made to its parsed form."""

    def fault(checkpoint):
        record = json.loads((checkpoint / manifest.NAME).read_text())
        change(record)
        (checkpoint / manifest.NAME).write_text(json.dumps(record))

    return fault


def flip_every_metadata_byte_once(checkpoint):
    for path in checkpoint.rglob("_METADATA"):
        path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))


def lead_out(checkpoint):
    outside = checkpoint.parents[1] / "outside"
    array_file(checkpoint).rename(outside)
    files = manifest.read(checkpoint, step=20).files
    [gone] = [name for name in files if not (checkpoint / name).exists()]
    (checkpoint / gone).symlink_to(outside)


FAULTS = {
    "truncated": (truncate, "bytes"),
    "a bit flipped": (flip_a_bit, "altered"),
    "a file grown": (lambda c: os.truncate(array_file(c), 10**6), "bytes"),
    "a file that is a link out": (lead_out, "a link to a file outside of"),
    "a file deleted": (lambda c: array_file(c).unlink(), "missing"),
    "a directory for a file": (
        lambda c: ((c / "_METADATA").unlink(), (c / "_METADATA").mkdir()),
        "bytes",
    ),
    "metadata altered": (flip_every_metadata_byte_once, "_METADATA is altered"),
    "no manifest": (lambda c: (c / manifest.NAME).unlink(), "cut short"),
    "an empty manifest": (lambda c: (c / manifest.NAME).write_text(""), "damaged"),
    "half a manifest": (lambda c: os.truncate(c / manifest.NAME, 200), "damaged"),
    "a manifest of a list": (lambda c: (c / manifest.NAME).write_text("[]"), "damaged"),
    "a manifest not of text": (
        lambda c: (c / manifest.NAME).write_bytes(b"\xff\xfe"),
        "not UTF-8",
    ),
    "another dtype in it": (
        edit(lambda r: r["manifest"]["leaves"]["step"].update(dtype="int16")),
        "digest",
    ),
    "an empty directory": (
        lambda c: (shutil.rmtree(c), c.mkdir()),
        "cut short",
    ),
    "the directory of another step": (
        lambda c: (shutil.rmtree(c), shutil.copytree(c.parent / "00000010", c)),
        "step 10",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_damaged_one_is_named_and_the_one_before_used(saved, caplog, name):
    fault, reason = FAULTS[name]
    fault(saved / "00000020")
    with Checkpoints(saved, keep=2) as checkpoints:
        assert checkpoints.latest_verified() == 10
        (refused,) = checkpoints.rejected
        assert refused.step == 20 and reason in refused.reason
        assert "00000020" in caplog.text and reason in caplog.text
        with pytest.raises(UserError, match="00000020 refused"):
            checkpoints.restore(20, abstract(content(0)))
        assert_bits(checkpoints.restore(10, abstract(content(0))), content(10))
        checkpoints.save(20, content(20))  # the run gets there again
        checkpoints.wait()
    with Checkpoints(saved, keep=2) as checkpoints:
        assert checkpoints.latest_verified() == 20
        assert_bits(checkpoints.restore(20, abstract(content(0))), content(20))


METADATA = ["[]", '{"tree_metadata": 3}', '{"a":' * 5000 + "1" + "}" * 5000]


@pytest.mark.parametrize("metadata", METADATA)
def test_a_sealed_file_that_orbax_cannot_read_is_one_line(saved, metadata):
    whole = manifest.read(saved / "00000020", step=20)
    (saved / "00000020" / "_METADATA").write_text(metadata)
    (saved / "00000020" / manifest.NAME).unlink()
    manifest.seal(saved / "00000020", step=20, leaves=whole.leaves)
    with Checkpoints(saved, keep=2) as checkpoints:
        assert checkpoints.latest_verified() == 20
        asked = abstract(content(0))
        for restore, tree in (
            (checkpoints.restore, asked),
            (checkpoints.restore_part, {"step": asked["step"]}),
        ):
            with pytest.raises(UserError, match="its files are not well") as refusal:
                restore(20, tree)
            assert "\n" not in str(refusal.value)
        assert_bits(checkpoints.restore(10, asked), content(10))


def test_a_single_flipped_bit_anywhere_is_seen(saved):
    choose = random.Random(0)
    paths = [path for path in (saved / "00000020").rglob("*") if path.is_file()]
    for path in paths:
        whole = path.read_bytes()
        for _ in range(20):
            flipped = bytearray(whole)
            flipped[choose.randrange(len(whole))] ^= 1 << choose.randrange(8)
            path.write_bytes(flipped)
            with pytest.raises(manifest.CorruptCheckpoint):
                manifest.check(saved / "00000020", step=20)
        path.write_bytes(whole)
    manifest.check(saved / "00000020", step=20)


def test_all_damaged_is_none_and_every_one_named(saved):
    for step in ("00000010", "00000020"):
        flip_a_bit(saved / step)
    with Checkpoints(saved, keep=2) as checkpoints:
        assert checkpoints.latest_verified() is None
        assert [refused.step for refused in checkpoints.rejected] == [20, 10]
        with pytest.raises(UserError, match=r"step 20: .*altered.* \(and 1 more\)"):
            checkpoints.refuse_if_all_damaged()


def test_a_save_that_a_kill_cut_short_was_no_checkpoint(saved):
    shutil.rmtree(saved / "00000010")
    (saved / "00000020" / manifest.NAME).unlink()
    with Checkpoints(saved, keep=2) as checkpoints:
        checkpoints.refuse_if_all_damaged()  # nothing was looked at yet
        assert checkpoints.latest_verified() is None
        checkpoints.refuse_if_all_damaged()


def test_checkpoints_that_all_lost_their_manifests_are_damaged(saved):
    for step in ("00000010", "00000020"):
        (saved / step / manifest.NAME).unlink()
    with Checkpoints(saved, keep=2) as checkpoints:
        assert checkpoints.latest_verified() is None
        with pytest.raises(UserError, match="--begin_anew"):
            checkpoints.refuse_if_all_damaged()


def test_an_old_one_that_is_a_link_goes_and_what_it_leads_to_stays(saved, tmp_path):
    shutil.move(saved / "00000010", tmp_path / "elsewhere")
    (saved / "00000010").symlink_to(tmp_path / "elsewhere")
    with Checkpoints(saved, keep=1) as checkpoints:
        checkpoints.save(30, content(30))
    assert [path.name for path in saved.iterdir()] == ["00000030"]
    manifest.check(tmp_path / "elsewhere", step=10)


def test_an_old_one_that_cannot_be_deleted_fails_no_save(saved, monkeypatch, caplog):
    def refuse(path):
        raise PermissionError(13, "Permission denied", "inner/file")

    with Checkpoints(saved, keep=1) as checkpoints:
        monkeypatch.setattr(shutil, "rmtree", refuse)
        checkpoints.save(30, content(30))
        checkpoints.wait()
        assert checkpoints.latest_verified() == 30
    assert f"{saved}/00000010 could not be deleted: Permission denied" in caplog.text
