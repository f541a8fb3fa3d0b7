"""A work directory as a run leaves it, and a parser of pages."""

import html.parser
import json
import math
import pickle

CONFIG = """\
<root>: runner.Experiment
batch_size: 16
losses: [ce, z_loss]
losses.ce: losses.LossTerm
losses.ce.loss: losses.CrossEntropy
losses.ce.weight: 1.0
losses.z_loss: losses.LossTerm
losses.z_loss.loss: losses.ZLoss
losses.z_loss.weight: 0.0001
num_steps: 60
optimizer: optax.adamw
student: partial(models.Transformer)
train_data: runner.data.TokenizedText
train_data.documents: runner.data.PythonLibrary
"""
RESULT = {
    "evaluations": {
        "held_out": {
            "loss": 4.366,
            "perplexity": 78.7,
            "bits_per_byte": 1.691,
            "accuracy": 0.2314,
            "calibration_error": 0.0123,
        }
    },
    "baselines": [
        {"name": "xz", "bits_per_byte": 1.601},
        {"name": "unigram", "nats_per_token": 6.902, "bits_per_byte": 2.674},
        {"name": "gzip", "nats_per_token": None, "bits_per_byte": 1.83},
    ],
    "samples": [{"prompt": "import ", "text": "<script>alert(1)</script> & more"}],
}


def trained(workdir, *, steps=60, without=()):
    """A work directory as a run of `steps` steps leaves it."""
    rows = []
    for step in range(1, steps + 1):
        ce = 4.3 + 4 * math.exp(-step / 10) + 0.1 * math.sin(7 * step)
        rows.append(
            {
                "step": step,
                "learning/ce": ce,
                "learning/z_loss": 1e3 * math.exp(-step / 12) + 1,
                "learning/total": ce + 1,
                "weights/ce": 1.0,
                "weights/z_loss": 1e-4 * step,
                "optimizer/learning_rate": 1e-3 * step / 60,
                "optimizer/gradient_norm": 1.0 if step != 30 else None,
                "moe/load_entropy": 0.98,
                "speed/steps_per_second": 2.0,
                "speed/tokens_per_second": 26140.0,
                "speed/waiting_for_data": 0.002,
            }
        )
        if step % 20 == 0:
            metrics = RESULT["evaluations"]["held_out"]
            rows.append(
                {"step": step, **{f"held_out/{k}": metrics[k] for k in metrics}}
            )
            rows.append({"step": step, "samples/0": f"text of {step}"})
    files = {
        "metrics.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "config.txt": CONFIG,
        "result.json": json.dumps(RESULT),
        "versions.json": json.dumps({"python": "3.11.7", "packages": {"jax": "0.10"}}),
        "data.json": json.dumps(
            {"train_data": {"fingerprint": "a3f0", "tokens": 4412289}}
        ),
        "command.txt": "runner --fdl_config=configs/moe_zloss.py --workdir=/tmp/a\n",
        "parameters.txt": "...\nTotal: 2,612,480 parameters, 10,449,920 bytes\n",
    }
    workdir.mkdir(exist_ok=True)
    for name, text in files.items():
        if name not in without:
            (workdir / name).write_text(text)
    return workdir


PICTURES: dict[bytes, str] = {}
"""Curves that tests of this process have drawn, by what they show."""


def drawn_once(svg):
    """`plot.svg`, which takes nearly all of a report's time, for equal curves once."""

    def picture(*args, **kwargs):
        shown = pickle.dumps((args, kwargs))
        if shown not in PICTURES:
            PICTURES[shown] = svg(*args, **kwargs)
        return PICTURES[shown]

    return picture


class Page(html.parser.HTMLParser):
    """Checks that tags are balanced; keeps the text and what is linked."""

    VOID = ("meta", "img", "source", "wbr", "!doctype")

    def __init__(self, text):
        super().__init__()
        self.open, self.linked, self.text, self.tags = [], [], "", set()
        self.scripts = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.linked += [v for k, v in attrs if k in ("src", "srcset", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] != "style":
            self.text += data
