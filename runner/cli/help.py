"""The texts of `--help` and `--version`."""

HELP = """\
runner: train one student under an ordered list of losses, from one graph.
  runner --fdl_config=configs/moe_zloss.py --workdir=DIR      train; again: continue
  runner --workdir=DIR                                        continue or re-read DIR

The graph: all that changes the result. Overrides apply from left to right.
  --fdl_config=FILE.py[:FUNCTION]    the experiment; or --fdl_config_file=FILE.json
  --fdl.student.num_layers=4         set a field: a Python literal, its type checked
  --fdl.losses.z_loss.weight=1e-3    an item of a list by its name, or losses[2].weight
  --fdl.losses.kd.loss='losses.ForwardKL(temperature=2.0)'      a call, in shell quotes
  --fdl.losses.kd=None  --fdl.losses+="LossTerm(name='z', loss=losses.ZLoss())"
  --fdl_tag.DType=bfloat16           set every field that carries a tag
  --fiddler='bigger(factor=2)'       call a function of the config file on the graph
  --fiddler='start_from("DIR")'      begin with the weights of a run or published model
  --fiddler='longer(400, of="DIR")'  go on from all of a run, to a larger num_steps
  --sweep=lr                         a run for each point of a function of the config
                                     file, or of "values('fdl.num_steps', 100, 200)"
  --seeds=5  --baseline=SETTING      every point at 5 seeds, with intervals
The runtime: all that must not change it (mesh, microbatches, cadence, caches).
  --gin.loop.log_every=10  --gin_file=FILE.gin  --gin_bindings='step.microbatches = 4'

Look, and train nothing:
  --print_config   the graph as sorted lines; with --sweep, what each unit changes
  --diff=OTHER     what changes from OTHER: a config file, saved graph or work directory
  --graph=OUT.svg  the graph drawn
  --dry_run        shapes, FLOPs, memory, traffic; here or --gin.mesh.topology=v5e:16x16
  --evaluate       measure the run in --workdir again; --evaluate=NAME: one evaluation
  --list=KIND      losses metrics weights models teachers starts data optimizers hooks
                   writers jobs gin
  --describe=NAME  its fields, types, defaults, formula and source: losses.ForwardKL

  --workdir=DIR    where everything of the run goes: metrics, checkpoints, report.html
  --begin_anew     begin at step 0 where every checkpoint of DIR is damaged
  --trust          let a sweep that is there already run its source/ and reach outside
  --trust=PACKAGE  let the graph of a directory from elsewhere import PACKAGE
  --help, --version      completion: eval "$(register-python-argcomplete runner)"

Other commands, each with --help:
  runner report [NAME=]DIR [DIR ...]     runner-records inspect|verify|import
  runner-export WORKDIR --to=DIR         runner-sample MODEL --prompt=TEXT
  python -m runner.sweeps DIR            python -m launch TARGET ... -- FLAGS
"""


def version() -> str:
    """Return the versions of Retort, Python and the libraries that decide results."""
    import platform

    names = ("retort", "jax", "flax", "optax", "fiddle")
    versions = ", ".join(f"{name} {_version(name)}" for name in names)
    return f"{versions}, python {platform.python_version()}"


def _version(distribution: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "(not installed)"
