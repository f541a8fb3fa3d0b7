"""Every mistake a user can make at the command line, and what it is answered with."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner import main

ROOT = Path(__file__).parents[2]
SAMPLE = str(Path(__file__).parent / "sample.py")
GRAPH = f"--fdl_config={SAMPLE}"

FILES = {
    "syntax.py": "import jax\n\ndef config(:\n    pass\n",
    "name.py": "import losses\n\nx = undefined\n",
    "missing.py": "import lossses\n",
    "branch.py": (
        "from fiddle.experimental.auto_config import auto_config\n\n\n"
        "@auto_config\ndef config(a=1):\n    if a:\n        return dict()\n"
    ),
    "raises.py": "def config():\n    return 1 / 0\n",
    "text.txt": "x",
    "damaged.json": "{",
    "foreign.json": '{"root": {"type": "pyref", "module": "os", "name": "system"}, '
    '"objects": {}}',
    "name.gin": "loop.log_evry = 3\n",
    "section.gin": "\nlop.log_every = 3\n",
    "type.gin": "loop.log_every = 'x'\n",
    "syntax.gin": "loop.log_every =\n",
    "call.gin": "loop.log_every = @print()\n",
    "import.gin": "import os\n",
    "include.gin": "include 'nam.gin'\n",
    "macro.gin": "loop.log_every = %steps\n",
    "itself.gin": "include 'itself.gin'\n",
    "exits.py": "import sys\n\nsys.exit(3)\n",
    "leaves.py": "import sys\n\n\ndef config():\n    sys.exit('enough')\n",
    "circle.py": (
        "import fiddle as fdl\nimport losses\n\n\ndef config():\n"
        "    cfg = fdl.Config(losses.ZLoss)\n    inner = []\n    inner.append(inner)\n"
        "    term = fdl.Config(losses.LossTerm, name='z', loss=cfg)\n"
        "    term.mask = inner\n    return term\n"
    ),
}

# What is typed after `runner` (`{}` is the directory of FILES) and what is answered.
# A `!` before the flags: they stand alone, without a graph and a work directory.
MISTAKES = [
    # flags
    ("!", "no experiment; give --fdl_config=configs/NAME.py"),
    ("! --fdl_config={s}", "no place for the results; give --workdir=DIR"),
    ("--wrokdir=x", "unknown flag --wrokdir; did you mean 'workdir'?"),
    ("--fidler=bigger", "unknown flag --fidler; did you mean 'fiddler'?"),
    ("--printconfig", "unknown flag --printconfig; did you mean 'print_config'?"),
    ("--fdl_num_steps=3", "unknown flag --fdl_num_steps"),
    ("--losses.ce.weight=1", "unknown flag --losses.ce.weight"),
    ("--gin=loop.log_every", "unknown flag --gin; write --gin.name=value"),
    ("-workdir=x", "unknown flag -workdir=x; flags begin with two dashes"),
    ("configs/moe.py", "did you mean --fdl_config=configs/moe.py?"),
    ("train", "unexpected 'train'; expected flags such as --workdir=DIR"),
    ("reprot", "unexpected 'reprot'; did you mean runner report?"),
    ("export", "unexpected 'export'; did you mean runner-export?"),
    ("--", "unexpected '--'"),
    ("! --workdir", "--workdir needs a value: --workdir=DIR"),
    ("! --workdir=", "--workdir needs a value: --workdir=DIR"),
    ("--fiddler --dry_run", "--fiddler needs a value: --fiddler='bigger(factor=2)'"),
    ("--fdl.num_steps", "--fdl.num_steps needs a value"),
    ("--fdl.=3", "--fdl. needs a name: --fdl.num_steps=200"),
    ("--print_config=yes", "--print_config takes no value, got 'yes'"),
    ("--workdir=other", "--workdir is given 2 times"),
    ("--fdl_config=other.py", "--fdl_config is given 2 times"),
    ("--fdl_config_file=a.json", "both name the graph; give one"),
    ("--print_config --dry_run", "--print_config and --dry_run are given; give one"),
    ("--graph=x.png", "--graph=x.png: expected a file name that ends in .svg"),
    ("--graph={}/no/x.svg", "no such directory {}/no"),
    # files
    ("! --fdl_config={} --print_config", "{}: a directory, not a file"),
    ("! --fdl_config=configs/no.py --print_config", "configs/no.py: no such file"),
    ("! --fdl_config={}/nam.py --print_config", "did you mean 'name.py'?"),
    ("! --fdl_config={}/no/x.py --print_config", "(nor a directory {}/no)"),
    ("! --fdl_config={}/text.txt --print_config", "text.txt: expected a Python file"),
    ("! --fdl_config={}/syntax.py --print_config", "syntax.py:3: SyntaxError: "),
    ("! --fdl_config={}/name.py --print_config", "name.py:3: NameError: name 'undef"),
    ("! --fdl_config={}/missing.py --print_config", "No module named 'lossses'"),
    ("! --fdl_config={}/branch.py --print_config", "branch.py:"),
    ("! --fdl_config={}/raises.py --print_config", "raises.py:2: ZeroDivisionError: "),
    ("! --fdl_config={}/exits.py --print_config", "exits.py:3: SystemExit: 3"),
    ("! --fdl_config={}/leaves.py --print_config", "leaves.py:5: SystemExit: enough"),
    ("! --fdl_config={}/circle.py --print_config", "circle.py: the graph holds itself"),
    (
        "--fiddler=bigger(factor=1,factor=2)",
        "bigger: the argument factor is there twice",
    ),
    ("! --fdl_config={}/name.gin --print_config", "expected a Python file (.py)"),
    ("! --fdl_config={s}:confg --print_config", "no function 'confg'; did you mean"),
    ("! --fdl_config={s}:sized --print_config", "sized: missing a required argument"),
    ("! --fdl_config={s}:sized(1,2) --print_config", "it takes num_steps"),
    ("! --fdl_config={s}:a.b --print_config", "expected name or name(key=value, ...)"),
    (
        "! --fdl_config={s}:nothing --print_config",
        "nothing() made NoneType, not a graph",
    ),
    (
        "! --fdl_config={s}:no_job --print_config",
        "root is losses.ZLoss, which is no",
    ),
    (
        "! --fdl_config=configs/distill.py --fdl.losses.kd.loss.over_records=drop "
        "--print_config",
        "has no field 'over_records'; it is now 'sparse'",
    ),
    ("! --fdl_config_file={}/no.json --print_config", "no.json: no such file"),
    ("! --fdl_config_file={}/damaged.json --print_config", "not a saved graph, or dam"),
    ("! --fdl_config_file={}/foreign.json --print_config", "'os.system' may not stand"),
    ("--diff={}/no.py", "no.py: no such file"),
    # paths
    ("--fdl.num_step=3", "has no field 'num_step'; did you mean 'num_steps'?"),
    (
        "--fdl.losses.zloss.weight=1",
        "losses has no item 'zloss'; did you mean 'z_loss'?",
    ),
    ("--fdl.losses.z_loss.wieght=1", "no field 'wieght'; did you mean 'weight'?"),
    ("--fdl.losses.ce.weight=nan", "weight of 'ce' must be finite, got nan"),
    ("--fdl.losses.new=1", "losses has no item 'new'; one of: ce, z_loss"),
    ("--fdl.losses[2].weight=1", "losses has no item [2]; valid indices: 0 to 1"),
    ("--fdl.losses[-3].weight=1", "losses has no item [-3]"),
    ("--fdl.student.num_layer=1", "did you mean 'num_layers'?"),
    ("--fdl.num_steps.x=1", "num_steps is 10 (int), without fields"),
    ("--fdl.options.b=1", "options (dict) has no field 'b'; one of: a"),
    ("--fdl.losses..weight=1", "'losses..weight' is no path"),
    ("--fdl.losses[x].weight=1", "'losses[x].weight' is no path"),
    ("--fdl.optimizer[1].learning_rat.x=1", "did you mean 'learning_rate'?"),
    ("--fdl.student.rngs.x=1", "student.rngs is not set"),
    # types
    ("--fdl.num_steps=abc", "expected int, got 'abc' (str)"),
    ("--fdl.num_steps=1.5", "--fdl.num_steps=1.5: expected int, got 1.5 (float)"),
    ("--fdl.num_steps=1e3", "expected int, got 1000.0 (float)"),
    ("--fdl.num_steps=None", "expected int, got None"),
    ("--fdl.num_steps=True", "expected int, got True (bool)"),
    ("--fdl.num_steps=", "expected int, got '' (str)"),
    ("--fdl.ratio=half", "expected float, got 'half' (str)"),
    ("--fdl.ratio=True", "expected float, got True (bool)"),
    ("--fdl.shuffle=1", "expected bool, got 1 (int)"),
    ("--fdl.source.order=random", "expected one of 'file', 'shuffled', got 'random'"),
    ("--fdl.source.shape=2", "expected tuple[int, ...], got 2 (int)"),
    ("--fdl.source.shape=(1,'a')", "expected tuple[int, ...], got (1, 'a')"),
    ("--fdl.options.a=x", "expected int, got 'x' (str)"),
    ("--fdl.losses=3", "expected Sequence[LossTerm], got 3 (int)"),
    ("--fdl.losses[0]=3", "expected LossTerm, got 3 (int)"),
    ("--fdl.losses.ce.weight=x", "expected float or a function, got 'x' (str)"),
    ("--fdl.losses.ce.mask=3", "expected a function or None, got 3 (int)"),
    ("--fdl.optimizer=sgd", "expected GradientTransformation, got 'sgd' (str)"),
    ("--fdl.student.num_heads=2.0", "expected int, got 2.0 (float)"),
    # calls
    (
        "--fdl.losses.ce.loss=losses.CrosEntropy()",
        "losses has no 'CrosEntropy'; did you mean 'CrossEntropy'?",
    ),
    ("--fdl.losses.ce.loss=os.system('x')", "no name 'os'"),
    ("--fdl.losses.ce.loss=models.GatedMLP()", "expected Loss or a function, got mod"),
    ("--fdl.losses+=losses.ZLoss()", "--fdl.losses+=losses.ZLoss(): expected LossTerm"),
    ("--fdl.losses+", "--fdl.losses+ needs a value"),
    ("--fdl.losses.ec=None", "losses has no item 'ec'; did you mean 'ce'?"),
    ("--fdl.losses+=LossTerm(name='ce',loss=ZLoss(scale=1))", "no field 'scale'"),
    # values, once the objects are made
    (
        "--fdl.num_steps=0",
        "<root> (sample.py:Job): num_steps must be at least 1, got 0",
    ),
    ("--fdl.losses.ce.name=a-b", "losses[0] (losses.LossTerm): a term's name must be"),
    ("--fdl.source.path=/no/file", "source: path: no such file /no/file"),
    (
        "! --fdl_config={s}:required --dry_run",
        "student, losses, optimizer must be given",
    ),
    (
        "--fdl.num_steps=9 --fdl.student.num_heads=3",
        "runner: --fdl.student.num_heads=3: student (models.Transformer): dim must be",
    ),
    (
        "--fdl.student.dtype=float8",
        "student (models.Transformer): dtype must be one of",
    ),
    (
        "--fdl_tag.DType=bf16",
        "runner: --fdl_tag.DType=bf16: student (models.Transformer): dtype must be one",
    ),
    (
        "! --fdl_config={r}/configs/dense.py --dry_run"
        " --fdl.optimizer.learning_rate.decay_steps=20",
        "runner: --fdl.optimizer.learning_rate.decay_steps=20: optimizer.learning_rate",
    ),
    ("--fdl.student.mlp.hidden_dim=-8", "hidden_dim must be positive, got -8"),
    (
        "! --fdl_config={r}/configs/dense.py --dry_run --fdl.seed=1" + 23 * "0",
        "seed must be 0 to 2**32 - 1, got 1" + 23 * "0",
    ),
    (
        "! --fdl_config={r}/configs/dense.py --dry_run "
        "--fdl.evaluations.held_out.name=held-out",
        "(runner.Evaluation): name must be an identifier, got 'held-out'",
    ),
    ("--fiddler=misspelt", "'hiden'"),
    # fiddlers and tags
    ("--fiddler=biggr(2)", "no function 'biggr'; did you mean 'bigger'?"),
    ("--fiddler=bigger(fator=2)", "bigger: got an unexpected keyword argument 'fator'"),
    ("--fiddler=bigger(1,2)", "bigger: too many positional arguments; it takes factor"),
    ("--fiddler=without", "missing a required argument: 'name'; it takes name"),
    ("--fiddler=bigger(x)", "expected a literal argument (number, string, list ...)"),
    ("--fiddler=bigger(", "expected name or name(key=value, ...), got 'bigger('"),
    ("--fiddler=not_a_graph", "expected a graph or None back, got int"),
    ("--fiddler=fails", "sample.py:105: AttributeError: No parameter named"),
    ("--fiddler=Source(1)", "expected a graph or None back, got Source"),
    ("--fiddler={}/no.py:f", "no.py: no such file"),
    ("--fdl_tag.DTyp=x", "has the tag 'DTyp'; did you mean 'DType'?"),
    ("! --fdl_config={s}:sized(3) --fdl_tag.DType=x --dry_run", "'DType'; it has none"),
    # the runtime
    (
        "--gin.loop.log_evry=3",
        "loop has no setting 'log_evry'; did you mean 'log_every'?",
    ),
    ("--gin.lop.log_every=3", "the runtime has no section 'lop'; did you mean 'loop'?"),
    ("--gin.log_every=3", "expected section.name, such as loop.log_every"),
    ("--gin.loop.log_every=x", "loop.log_every: expected int, got 'x' (str)"),
    ("--gin.loop.log_every=1.5", "loop.log_every: expected int, got 1.5 (float)"),
    ("--gin.loop.log_every=0", "loop.log_every must be at least 1, got 0"),
    ("--gin.loop.checkpoint_every=-1", "checkpoint_every must not be negative, got"),
    (
        "--gin.loop.evaluate_every=-5",
        "loop.evaluate_every must not be negative, got -5",
    ),
    ("--gin.loop.sample_every=-1", "loop.sample_every must not be negative, got -1"),
    ("--gin.loop.profile_start=-1", "loop.profile_start must not be negative, got -1"),
    ("--gin.loop.profile_steps=-1", "loop.profile_steps must not be negative, got -1"),
    ("--gin.diagnostics.every=-1", "diagnostics.every must not be negative, got -1"),
    ("--gin.mesh.num_cpu_devices=-1", "mesh.num_cpu_devices must not be negative, got"),
    ("--gin.mesh.rules={'emded':('data',)}", "no logical axis 'emded'; did you mean"),
    ("--gin.mesh.rules={'mlp':('tensr',)}", "no mesh axis 'tensr'; did you mean 'ten"),
    ("--gin.distributed.coordinator=nohost", "must be HOST:PORT, such as node1:12345"),
    ("--gin.distributed.coordinator=:80", "distributed.coordinator must be HOST:PORT"),
    ("--gin.distributed.coordinator=a:99999", "coordinator must be HOST:PORT"),
    ("--gin_file={}/itself.gin", "itself.gin: it includes itself, or nests too deeply"),
    ("--gin.step.microbatches=0", "step.microbatches must be at least 1, got 0"),
    ("--gin.step.remat=some", "remat must be one of ['dots', 'full', 'none'], got"),
    ("--gin_bindings=loop.log_every", "--gin_bindings=loop.log_every: "),
    ("--gin_bindings=loop.log_every=x", "--gin_bindings=loop.log_every=x: "),
    ("--gin_file={}/nam.gin", "no such file; did you mean '{}/name.gin'?"),
    ("--gin_file={}/name.gin", "name.gin:1: loop has no setting 'log_evry'"),
    ("--gin_file={}/section.gin", "section.gin:2: the runtime has no section 'lop'"),
    ("--gin_file={}/type.gin", "type.gin:1: loop.log_every: expected int, got 'x'"),
    ("--gin_file={}/syntax.gin", "syntax.gin: "),
    (
        "--gin_file={}/call.gin",
        "call.gin:1: loop.log_every: expected a plain value, got @print",
    ),
    ("--gin_file={}/macro.gin", "loop.log_every: expected a plain value, got %steps"),
    ("--gin_file={}/import.gin", "import.gin: a runtime file imports nothing"),
    ("--gin_file={}/include.gin", "did you mean '{}/name.gin'?"),
    # processes
    (
        "--gin.distributed.processes=2 --gin.distributed.process=2",
        "distributed.process must be 0 to 1, got 2",
    ),
    # sweeps
    ("--sweep", "--sweep needs a value: --sweep=lr"),
    ("--sweep=a --sweep=b", "--sweep is given 2 times: a, b"),
    ("! --sweep=lr --workdir={}", "--sweep=lr is a function of a config file; give"),
    ("--sweep=lr --dry_run", "--dry_run looks at one graph, not at a sweep"),
    ("--sweep=lr --graph=x.svg", "--print_config lists what a sweep would run"),
    ("--sweep=rate", "no sweep 'rate'; did you mean 'rates'?"),
    ("--sweep=rates(", "--sweep=rates(: expected name or name(key=value, ...)"),
    ("--sweep=rates(1,2)", "rates: too many positional arguments; it takes path"),
    ("--sweep=fails", "--sweep=fails: fails: missing a required argument: 'cfg'"),
    ("--sweep=nothing", "--sweep=nothing: made NoneType, not a list of points"),
    ("--sweep=config", "--sweep=config: made Config, not a list of points"),
    (
        "--sweep=rates('gin.step.microbatches')",
        "gin.step.microbatches: a sweep cannot set gin flags",
    ),
    ("--sweep=rates('num_steps')", "'num_steps' is no flag of the graph; did you mean"),
    (
        "--sweep=rates('fdl.num_stpes')",
        "point num_stpes=1: --fdl.num_stpes=1: the graph (sample.py:Job) has no field",
    ),
    ("--sweep=rates('fdl.ratio')", "makes the same graph as the point ratio=1"),
    ("--sweep=rates('fdl.shuffle')", "point shuffle=1: --fdl.shuffle=1: expected bool"),
    ("--sweep=rates --fdl.num_steps=a", "--fdl.num_steps=a: expected int, got 'a'"),
    (
        "--sweep=rates --gin.distributed.processes=2",
        "runs each unit in one process; in several: python -m launch local",
    ),
    ("--sweep=rates --gin.loop.log_every=0", "log_every must be at least 1, got 0"),
    # work directories
    ("! --workdir={}/no", "{}/no: no such directory; a new run needs --fdl_config"),
    ("! --workdir={}", "holds no run (no config.json)"),
    ("! --fdl_config={s} --workdir={}/text.txt", "text.txt"),
    ("! --fdl_config={s} --workdir={}/text.txt/below", "text.txt"),
    (
        "! --fdl_config={s} --workdir={}",
        "holds no run (no config.json) but other files: ",
    ),
    (
        "! --fdl_config={s} --sweep=rates --workdir={}",
        "holds no sweep (no sweep.json) but other files: ",
    ),
]


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_text(content)
    return folder


def arguments(typed, files, workdir):
    alone = typed.startswith("!")
    words = typed.removeprefix("!").replace("{}", str(files)).replace("{s}", SAMPLE)
    words = words.replace("{r}", str(ROOT))
    return words.split() if alone else [GRAPH, f"--workdir={workdir}", *words.split()]


@pytest.mark.parametrize(("typed", "answer"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_answered(typed, answer, files, tmp_path, capsys):
    workdir = tmp_path / "run"
    code = main.main(["runner", *arguments(typed, files, workdir)])
    captured = capsys.readouterr()
    assert answer.replace("{}", str(files)) in captured.err
    assert captured.err.startswith("runner: ")
    assert 1 <= len(captured.err.splitlines()) <= 3
    assert (code, captured.out) == (2, "")
    assert not workdir.exists()
    assert sorted(path.name for path in files.iterdir()) == sorted(
        [*FILES, *(["__pycache__"] if (files / "__pycache__").exists() else [])]
    )


@pytest.mark.parametrize(
    "typed",
    [
        "--fdl.num_steps=abc",
        "--fdl.num_steps=0",
        "--gin.loop.log_every=x",
        "--wrokdir=x",
    ],
)
def test_it_is_answered_before_any_device_is_touched(typed, files, tmp_path):
    workdir = tmp_path / "run"
    finished = subprocess.run(
        [sys.executable, "-m", "runner.main", *arguments(typed, files, workdir)],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "no_such_platform"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 2
    assert finished.stderr.startswith("runner: ") and finished.stdout == ""
    assert len(finished.stderr.splitlines()) <= 3
