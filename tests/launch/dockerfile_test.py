"""The image, as far as it can be told without building it."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.launch.stand_ins import ROOT

DOCKERFILE = ROOT / "launch" / "Dockerfile"


def test_hadolint_has_nothing_to_say():
    hadolint = Path(sys.executable).with_name("hadolint")
    said = subprocess.run(
        [hadolint, DOCKERFILE], capture_output=True, text=True, check=False
    )
    assert (said.returncode, said.stdout) == (0, "")


def test_it_copies_what_is_there_and_all_that_is_ours():
    copied = []
    for line in re.findall(r"^COPY (.*)$", DOCKERFILE.read_text(), re.M):
        copied += line.split()[:-1]
    assert all((ROOT / name).exists() for name in copied)
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages - {"tests"} | {"configs"} <= set(copied)


def test_its_python_is_one_that_the_lock_was_solved_for():
    [version] = re.findall(r"^FROM python:([\d.]+)-slim$", DOCKERFILE.read_text(), re.M)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]
