"""What stands where, what stays out, and what start-up leaves unimported."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.imports import ROOT, imported_names, modules, sources

MAY_IMPORT = {
    "losses": set(),
    "models": set(),
    "runner": {"losses", "models"},
    "configs": {"losses", "models", "runner"},
    "launch": {"runner"},
}
# A launcher hands command lines over; how a run works is none of its business.
LAUNCH_MAY_IMPORT = (
    "runner.atomic_files",
    "runner.cli.flags",
    "runner.errors",
    "runner.files",
    "runner.sweeps",
    "runner.workdir.lock",
)
AT_THE_ROOT = {
    ".ci",
    ".gitignore",
    ".pre-commit-config.yaml",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "configs",
    "docs",
    "findings",
    "launch",
    "losses",
    "mkdocs.yml",
    "models",
    "pyproject.toml",
    "requirements-dev.lock",
    "requirements.lock",
    "runner",
    "tests",
}
# An address of a package index, however it is called, and a path of one machine.
NOT_TO_COMMIT = re.compile(
    r"https?://\S+/simple\b|--(?:extra-)?index-url|(?<![\w.~-])/(?:root|home|work|Users)/\w"
)

# A path of the checkout in running text, and those that a page makes up.
PATH_IN_TEXT = re.compile(
    r"(?<![\w/.-])(?:configs|docs|launch|losses|models|runner|tests)/[\w/.*-]*[\w/*]"
)
MADE_UP = re.compile(r"configs/(?:my_experiment|new|old|NAME)\.py|losses/my_loss\.py")


def tracked() -> list[str]:
    listing = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [name for name in listing.stdout.splitlines() if (ROOT / name).is_file()]


def python(source: str, *, home: Path, **environment: str) -> list[str]:
    """The lines a fresh interpreter prints, run where a user would run it."""
    run = subprocess.run(
        [sys.executable, "-c", source],
        cwd=ROOT,
        env={"PATH": "", "HOME": str(home), "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not run.returncode, run.stderr
    return run.stdout.splitlines()


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_package_imports_only_what_stands_below_it(folder: str):
    ours = set(MAY_IMPORT) | {"tests"}
    for path in sources(folder):
        packages = {name.partition(".")[0] for name in imported_names(path)}
        above = (packages & ours) - MAY_IMPORT[folder] - {folder}
        assert not above, f"{path.relative_to(ROOT)} imports {sorted(above)}"


def test_launch_imports_of_the_runner_only_what_commands_are_made_of():
    for path in sources("launch"):
        for name in imported_names(path):
            allowed = name.startswith(LAUNCH_MAY_IMPORT)
            ours = name.partition(".")[0] == "runner"
            assert allowed or not ours, f"{path.relative_to(ROOT)}: {name}"


def test_the_root_holds_only_what_belongs_there():
    assert {name.partition("/")[0] for name in tracked()} <= AT_THE_ROOT


def test_every_file_with_tests_is_collected():
    for path in sources("tests"):
        if re.search(r"^(?:class T|def t|async def t)est", path.read_text(), re.M):
            assert path.name.endswith("_test.py"), f"pytest never opens {path}"


def test_no_file_names_a_package_index_or_one_persons_machine():
    for name in tracked():
        if name == "tests/architecture/packages_test.py":
            continue
        text = (ROOT / name).read_text(errors="ignore")
        match = NOT_TO_COMMIT.search(text)
        assert not match, f"{name}: {match and match[0]}"


def test_every_path_that_a_page_names_is_there():
    for page in (name for name in tracked() if name.endswith(".md")):
        if page == "CHANGELOG.md":  # tells of the past
            continue
        for path in PATH_IN_TEXT.findall((ROOT / page).read_text()):
            there = any(ROOT.glob(path)) or any(ROOT.glob(f"{path}.py"))
            assert there or MADE_UP.fullmatch(path), f"{page}: {path}"


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_holds_versions_and_hashes_only(name):
    lock = (ROOT / name).read_text()
    assert "://" not in lock
    assert not re.search(r"^tensorflow", lock, re.M)
    for block in re.split(r"\n(?=[a-z])", lock):
        if not block.startswith("#"):
            assert re.match(r"[\w.-]+==\S+", block), block
            assert "--hash=sha256:" in block, block


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """Return two lines of one interpreter, which imports the packages, then all of us.

    The modules loaded after the packages, and those of ours that import tensorflow.
    """
    # An empty stand-in, so that a guarded `try: import tensorflow` would succeed here.
    home = tmp_path_factory.mktemp("home")
    (home / "tensorflow.py").write_text("")
    source = f"""
import importlib, sys
import losses, models, runner
print(*sys.modules)
importers = ["tensorflow"] if sys.modules.pop("tensorflow", None) else []
for name in {[*modules("losses", "models", "runner")]}:
    importlib.import_module(name)
    if sys.modules.pop("tensorflow", None):
        importers.append(name)
print(*importers)
"""
    return [line.split() for line in python(source, home=home, PYTHONPATH=str(home))]


def test_importing_the_packages_is_cheap(imported: list[list[str]]):
    heavy = {"grain", "matplotlib", "orbax", "tensorboardX", "tokenizers", "wandb"}
    assert not heavy & set(imported[0])


def test_looking_at_an_experiment_imports_no_training_machinery(tmp_path: Path):
    not_ours = """array_record gguf grain IPython libcst matplotlib orbax safetensors
        tensorboardX tensorflow tensorstore tokenizers wandb"""
    ours = "checkpoint.checkpoints dry_run report step train writers"
    heavy = {*not_ours.split(), "clu.metric_writers", "clu.periodic_actions"}
    heavy |= {f"runner.{name}" for name in ours.split()}
    source = f"""
import contextlib, io, sys
from runner import main
for config in {[str(path) for path in sources("configs")]}:
    with contextlib.redirect_stdout(io.StringIO()):
        assert main.main(["runner", f"--fdl_config={{config}}", "--print_config"]) == 0
import jax._src.xla_bridge as bridge
assert not bridge.backends_are_initialized(), "a look wakes the devices"
print(*sys.modules, sep="\\n")
"""
    assert not heavy & set(python(source, home=tmp_path))


def test_help_imports_neither_jax_nor_what_imports_it(tmp_path: Path):
    source = "import sys; from runner import main; main.main(['runner', '--help'])"
    loaded = python(f"{source}; print(*sys.modules, sep='\\n')", home=tmp_path)
    assert not {"fiddle", "flax", "gin", "jax", "numpy", "optax"} & set(loaded)


def test_nothing_of_ours_imports_tensorflow(imported: list[list[str]]):
    assert imported[1] == []
