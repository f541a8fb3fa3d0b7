"""A directory from a stranger: its names and links reach nothing outside of it."""

import json
import os
from pathlib import Path

import fiddle as fdl
import pytest

import losses
from runner import report, sweeps, writers
from runner.checkpoint import manifest as checkpoints
from runner.errors import UserError
from runner.files import confined
from runner.records import manifest as records
from runner.workdir import lock, opening
from tests.runner.sweeps.sweeps import RATE, made

OUTSIDE = ["../x", "a/../../x", "/etc/passwd", "..", "", ".", "a\0b", 5, None, ["x"]]
SAVED = Path(__file__).parents[2] / "compatibility" / "saved_4c223cb"


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_out_is_refused(name):
    with pytest.raises(ValueError, match=r"names nothing inside|the name of a file"):
        confined.inside(Path("/runs/a"), name)


@pytest.mark.parametrize("name", ["x", "a/b", "a..b", "...", "a/./b", "-x"])
def test_other_names_are_paths_below(name):
    assert confined.inside(Path("/runs/a"), name) == Path("/runs/a") / name


def graph():
    return fdl.Config(losses.LossTerm, name="ce")


def start(path):
    with opening.open_workdir(path, graph(), ["runner"]) as opened:
        return opened


@pytest.fixture
def precious(tmp_path):
    """Files beside the work directory; nothing that is done may change them."""
    folder = tmp_path / "precious"
    (folder / "below").mkdir(parents=True)
    (folder / "file").write_text("mine")
    yield folder
    assert (folder / "file").read_text() == "mine"
    assert sorted(os.listdir(folder)) == ["below", "file"]
    assert os.listdir(folder / "below") == []


NAMES = ["checkpoints", "command.txt", "events", "lock", "metrics.jsonl"]
NAMES += ["parameters.txt", "profile", "report", "report.html", "wandb_id.txt"]


@pytest.mark.parametrize("name", NAMES)
def test_a_run_does_not_start_over_a_link_that_leads_out(tmp_path, precious, name):
    start(tmp_path / "run")
    (tmp_path / "run" / name).unlink(missing_ok=True)
    (tmp_path / "run" / name).symlink_to(
        precious / ("file" if "." in name else "below")
    )
    with pytest.raises(UserError, match=f"{name} is a link to .*precious"):
        start(tmp_path / "run")


def test_links_that_dangle_or_lie_one_level_down_lead_out_too(tmp_path, precious):
    start(tmp_path / "run")
    for name in ("a", "events/a"):
        link = tmp_path / "run" / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to("../../precious/new")
        with pytest.raises(UserError, match="is a link to"):
            start(tmp_path / "run")
        link.unlink()
    (tmp_path / "run" / "newest").symlink_to("events")  # one that stays inside
    (tmp_path / "alias").symlink_to("run")  # the command line's own
    start(tmp_path / "alias")


def test_files_that_are_added_to_are_no_links_and_no_pipes(tmp_path, precious):
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(precious / "file")
    os.mkfifo(pipe)
    opens = (confined.open_to_append, confined.open_anew)
    for path, reason in [
        (link, "is a link"),
        (pipe, "no ordinary file|No such device"),
    ]:
        for open_file in opens:
            with pytest.raises(OSError, match=reason):
                open_file(path)
        with pytest.raises(UserError, match=reason), lock.hold(path):
            pass
    writers.JsonLinesWriter(link).close()  # a link to a file of no metrics is replaced
    assert not link.is_symlink()


def test_a_report_is_not_drawn_over_links(tmp_path, precious):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.txt").write_text("num_steps: 3\n")
    (run / "report").symlink_to(precious / "below")
    with pytest.raises(UserError, match="report is a link"):
        report.write(run)


def shard_named(directory, name):
    """The saved records, resealed with another name of a shard."""
    directory.mkdir()
    written = json.loads((SAVED / "records" / "records" / "manifest.json").read_text())
    written["manifest"]["shards"][0]["name"] = name
    written["sha256"] = records._digest(written["manifest"])
    (directory / "manifest.json").write_text(json.dumps(written))
    return directory


@pytest.mark.parametrize("name", ["../x.array_record", "/x.array_record", ".."])
def test_records_are_read_from_their_own_directory_alone(tmp_path, name):
    with pytest.raises(UserError, match=r"damaged: .* names nothing inside"):
        records.read_manifest(shard_named(tmp_path / "records", name))


def test_a_checkpoint_lists_files_of_its_own_directory_alone(tmp_path, precious):
    (tmp_path / "00000001").mkdir()
    checkpoints.seal(tmp_path / "00000001", step=1, leaves={})
    path = tmp_path / "00000001" / checkpoints.NAME
    sealed = json.loads(path.read_text())
    file = {"size": 4, "sha256": "0" * 64}
    sealed["manifest"]["files"]["../precious/file"] = file
    sealed["sha256"] = checkpoints._digest_of(sealed["manifest"])
    path.write_text(json.dumps(sealed))
    with pytest.raises(checkpoints.CorruptCheckpoint, match="names nothing inside"):
        checkpoints.check(tmp_path / "00000001", step=1)


def changed_sweep(path, **changes):
    made(path, [({RATE: 0.1}, 4.0), ({RATE: 0.2}, None)])
    content = json.loads((path / "sweep.json").read_text())
    for key, value in changes.items():
        content[key] = value
    (path / "sweep.json").write_text(json.dumps(content))


POINT = {RATE: "0.1"}
CHANGES = [
    {"units": [{"name": "../../precious", "point": POINT}]},
    {"units": [{"name": "/precious", "point": POINT}]},
    {"units": [{"name": "a/b", "point": POINT}]},
    {"units": [{"name": "a", "point": POINT}, {"name": "a", "point": POINT}]},
    {"units": [{"name": "a", "point": {"workdir": "'/precious'"}}]},
    {"units": [{"name": "a", "point": {RATE: "open('x')"}}]},
    {"source": "../precious/x.py"},
    {"source": "/precious/x.py:config"},
    {"source": "units/x.py"},
    {"said": {"graph": "a.py", "overrides": ["--workdir=/precious"], "sweep": "lr"}},
    {"said": {"graph": "a.py", "overrides": ["--gin.input.cache=/x"], "sweep": "lr"}},
]


@pytest.mark.parametrize("changes", CHANGES, ids=lambda c: str(c)[:60])
def test_a_sweep_names_nothing_outside_of_it(tmp_path, precious, changes):
    changed_sweep(tmp_path / "sweep", **changes)
    with pytest.raises(UserError, match=r"sweep\.json is damaged: ") as refusal:
        sweeps.load(tmp_path / "sweep")
    assert "\n" not in str(refusal.value)


def test_a_sweep_is_not_summed_up_over_links(tmp_path, precious):
    sweep = made(tmp_path / "sweep", [({RATE: 0.1}, 4.0)])
    (tmp_path / "sweep" / "units" / "x").symlink_to(precious)
    with pytest.raises(UserError, match="units/x is a link"):
        sweeps.summarize(sweep)
