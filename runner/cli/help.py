"""The texts of `--help` and `--version`."""

HELP = """\
runner: train one student under an ordered list of losses, from one graph.

  runner --fdl_config=configs/moe_zloss.py --workdir=DIR      train; again: continue
  runner --workdir=DIR                                        continue or re-read DIR

The graph: all that changes the result. Overrides apply from left to right.
  --fdl_config=FILE.py[:FUNCTION]    the experiment (default function: config)
  --fdl_config_file=FILE.json        or a saved one
  --fdl.num_steps=200                set a field: a Python literal, its type checked
  --fdl.student.num_layers=4
  --fdl.losses.z_loss.weight=1e-3    an item of a list by its name, or losses[2].weight
  --fdl.losses.kd.loss='losses.ForwardKL(temperature=2.0)'
                                     a call of an allowed name, quoted for the shell
  --fdl.losses.kd=None               an item of a list is dropped
  --fdl.losses+="LossTerm(name='z', loss=losses.ZLoss(), weight=1e-4)"
                                     ... or appended
  --fdl_tag.DType=bfloat16           set every field that carries a tag
  --fiddler='bigger(factor=2)'       call a function of the config file on the graph
  --sweep=lr                         a run for each point that this function returns
  --sweep="values('fdl.losses.kd.loss', 'losses.ForwardKL()', 'losses.ReverseKL()')"

The runtime: all that must not change it (mesh, microbatches, cadence, caches).
  --gin_file=configs/runtime/cpu.gin
  --gin.loop.log_every=10
  --gin_bindings='step.microbatches = 4'

Look, and train nothing:
  --print_config       the graph as sorted lines, with classes and defaults;
                       with --sweep, its units and what each of them changes
  --diff=OTHER.py      what changes from OTHER to this graph, nothing else
  --graph=OUT.svg      the graph drawn
  --dry_run            shapes, shardings, FLOPs, memory and traffic of a step, on the
                       devices here or on those of --gin.mesh.topology=v5e:16x16

  --workdir=DIR        where everything of the run goes: metrics.jsonl, checkpoints/,
                       config.json, report.html
  --begin_anew         begin at step 0 where every checkpoint of DIR is damaged
  --trust              let a sweep that is there already run the Python in its source/
                       and use caches and hosts that its runtime.gin names
  --help, --version

Examples:
  runner --fdl_config=configs/moe.py --fdl.num_steps=50 --workdir=/tmp/moe50
  runner --fdl_config=configs/moe_zloss.py --diff=configs/moe.py
  runner --fdl_config=configs/moe.py --gin.mesh.expert=4 --dry_run
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
