"""What a step of each config costs, by the compiler: what it lacks costs it nothing.

After an intended change: `pytest tests/configs -m slow --rewrite_goldens`, then read
the diff of `tests/golden/step_costs.json`.
"""

import json

import pytest

from runner.experiment import Experiment
from runner.graph import build
from tests.configs.world import PATHS, ROOT, populated, read

GOLDEN = ROOT / "tests" / "golden" / "step_costs.json"
NAMES = [path.stem for path in PATHS if path.stem != "record_teacher"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = populated(tmp_path_factory.mktemp("world"))
    made.run_of("moe")
    return made


def costs(world, name):
    experiment = build.job(world.tiny(read(name)))
    assert isinstance(experiment, Experiment)
    setup = experiment.prepare()
    program = setup.step.compiled.lower(*setup.abstract_arguments()).compile()
    return {
        "flops": setup.flops_per_step(),
        "temporaries": program.memory_analysis().temp_size_in_bytes,
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_step_costs_what_it_did(world, name, request):
    found = costs(world, name)
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if request.config.getoption("--rewrite_goldens", default=False):
        golden[name] = found
        GOLDEN.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")
        return
    # Of temporaries, what a processor's own vector width may round up is let through.
    wanted = golden[name]
    assert found["flops"] == wanted["flops"]
    assert found["temporaries"] == pytest.approx(wanted["temporaries"], rel=0.02)
