"""Addresses of object stores: one line wherever a path may stand."""

import fiddle as fdl
import pytest

import runner
from runner.cli import flags
from runner.errors import UserError
from runner.files import remote
from runner.graph import build
from runner.records import manifest
from runner.report import run
from runner.weights import opening

ADDRESSES = ("gs://bucket/run", "s3://bucket/run", "memory://run", "abfs://a@b/run")


def parsed(address):
    flags.parse(["--fdl_config=configs/moe.py", f"--workdir={address}"])


def built(address):
    build.objects(fdl.Config(runner.OfflineTeacher, records=address))


READERS = (
    parsed,
    lambda address: flags.parse([f"--fdl_config={address}", "--print_config"]),
    lambda address: flags.parse([f"--fdl_config_file={address}", "--print_config"]),
    built,
    manifest.locate,
    run.load,
    opening.find,
)


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("read", READERS)
def test_an_address_is_refused_by_name_wherever_a_path_may_stand(
    read, address, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"lie on a file system; copy it here") as error:
        read(address)
    assert "\n" not in str(error.value)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "value", ["gs", "runs/s3", "s3 is a store: s3://b c", "hf:x", "C:/runs", 5, None]
)
def test_paths_and_texts_are_none(value):
    remote.refuse("workdir", value)
