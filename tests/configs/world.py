"""Configs made tiny, over one text, and their runs."""

import dataclasses
import json
import pydoc_data.topics
from pathlib import Path

import fiddle as fdl
import gin
from fiddle import selectors

import losses
from runner import data
from runner.cli import gin_flags
from runner.cli.flags import Flag
from runner.graph import build, overrides
from runner.graph import read as graph_read
from runner.graph.overrides import Set
from runner.teachers import OfflineTeacher, OnlineTeacher, ServedTeacher
from runner.workdir import opening

ROOT = Path(__file__).parents[2]
VOCABULARY = 300
# Images have other sizes: see vision_test.py.
PATHS = sorted(
    path
    for path in (ROOT / "configs").glob("*.py")
    if not path.stem.startswith(("vision_", "papers"))
)


SIZES = {
    "dim": "32",
    "num_layers": "1",
    "num_heads": "2",
    "num_kv_heads": "None",
    "vocab_size": f"{VOCABULARY}",
}


@dataclasses.dataclass(frozen=True)
class World:
    """One text, teachers that are tiny students of two configs, and records of one."""

    folder: Path

    @property
    def text(self):
        return self.folder / "text.txt"

    @property
    def chats(self):
        return self.folder / "chats.jsonl"

    def tiny(self, cfg):
        """The graph's own losses, model and optimiser, over little and on one file."""
        if hasattr(cfg, "student"):
            inner = "student.model" if hasattr(cfg.student, "model") else "student"
            sizes = [Set(f"{inner}.{name}", value) for name, value in SIZES.items()]
            cfg = overrides.apply(cfg, [*sizes, Set("num_steps", "2")])
            cfg.start = None  # of a model that is not here
        cfg.batch_size = 8
        documents = fdl.Config(data.TextFiles, files=(str(self.text),))
        tokenizer = fdl.Config(data.ByteBPE, documents, vocab_size=VOCABULARY)
        selectors.select(cfg, data.PythonLibrary).replace(documents)
        selectors.select(cfg, data.ByteBPE).set(vocab_size=VOCABULARY)
        selectors.select(cfg, data.GGUFTokenizer).replace(tokenizer)
        selectors.select(cfg, data.TokenizedText).set(sequence_length=16)
        selectors.select(cfg, data.PreferencePairs).set(sequence_length=32)
        chats = fdl.Config(data.JsonLines, files=(str(self.chats),))
        selectors.select(cfg, data.PythonQuestions).replace(chats)
        selectors.select(cfg, data.Part).set(num_rows=16)
        own_rows = selectors.select(cfg, data.OnPolicy)
        own_rows.set(prompt_tokens=4, max_new_tokens=6)
        _make_tiny_layout(cfg, documents, tokenizer)
        for teacher in selectors.select(cfg, OnlineTeacher):
            name = "moe" if teacher.checkpoint == "runs/moe_teacher" else "dense"
            teacher.checkpoint = str(self.folder / name)
        recorded = fdl.Config(OfflineTeacher, records="")  # there is no server
        selectors.select(cfg, ServedTeacher).replace(recorded)
        selectors.select(cfg, OfflineTeacher).set(records=str(self.folder / "records"))
        for over_layers in (losses.FeatureCosine, losses.Relations):
            selectors.select(cfg, over_layers).set(layers=((0, 0),))
        selectors.select(cfg, losses.Projected).set(student_dim=32, teacher_dim=32)
        for evaluation in getattr(cfg, "evaluations", ()):
            evaluation.batch_size = 8
        return cfg

    def run(self, cfg, name):
        """The work directory of a whole run."""
        gin_flags.apply(
            [
                Flag("gin.loop.log_every", "1"),
                Flag("gin.loop.evaluate_batches", "1"),
                Flag("gin.input.cache", str(self.folder / "cache")),
            ]
        )
        cfg = self.tiny(cfg)
        try:
            with opening.open_workdir(self.folder / name, cfg, ["runner"]) as opened:
                build.job(cfg).run(opened)
        finally:
            gin.clear_config()
        return opened

    def run_of(self, name):
        """The work directory of a config's run, which is made once."""
        if not (self.folder / name).exists():
            self.run(read(name), name)
        return self.folder / name


def populated(folder):
    """A world with its text, the run of a dense teacher, and its records."""
    world = World(folder)
    world.text.write_text(pydoc_data.topics.topics["assignment"])
    chat = {"prompt": "What is assigned?", "completion": "A name."}
    world.chats.write_text(f"{json.dumps(chat)}\n" * 32)
    world.run(read("dense"), "dense")
    world.run(read("record_teacher"), "records")
    return world


def _make_tiny_layout(cfg, documents, tokenizer):
    """Text for data that hold shapes alone, and heads and layers that fit `SIZES`."""
    if not list(selectors.select(cfg, data.PlannedTokens)):
        return
    text = fdl.Config(data.TokenizedText, documents, tokenizer, sequence_length=16)
    selectors.select(cfg, data.PlannedTokens).replace(text)
    cfg.student.num_kv_heads, cfg.student.mlp.hidden_dim = 1, 64
    cfg.teacher.model = None


def read(name, fiddler=""):
    module = graph_read.read(str(ROOT / "configs" / f"{name}.py"))
    cfg = module[0]
    return getattr(module[1], fiddler)(cfg) or cfg if fiddler else cfg
