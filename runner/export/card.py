"""The model card: what a student learnt from, for how long, and how well."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from models.pretrained.writing import Choice
from runner.export.student import Student
from runner.report.run import Run
from runner.writers.console import split_evaluation

_HF = """\
```python
import transformers

model = transformers.AutoModelForCausalLM.from_pretrained("{name}")
tokenizer = transformers.AutoTokenizer.from_pretrained("{name}")
ids = tokenizer("{begin}", add_special_tokens=False, return_tensors="pt")
print(tokenizer.decode(model.generate(**ids, max_new_tokens=50)[0]))
```
"""
_CHAT = """\
```python
import transformers

model = transformers.AutoModelForCausalLM.from_pretrained("{name}")
tokenizer = transformers.AutoTokenizer.from_pretrained("{name}")
messages = [{{"role": "user", "content": "Hello"}}]
ids = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
)
print(tokenizer.decode(model.generate(**ids, max_new_tokens=50)[0]))
```
"""
_PEFT = """\
```python
import peft
import transformers

base = transformers.AutoModelForCausalLM.from_pretrained("BASE")
model = peft.PeftModel.from_pretrained(base, "{name}")
```
"""
_GGUF = """\
```sh
llama-cli --model {name}/model.gguf
```
"""
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|<>~])")


def text(
    student: Student,
    choice: Choice,
    *,
    dtype: str,
    name: str,
    library: str,
    quantized: bool = False,
) -> str:
    """Return the card as Markdown, with its header for the hub.

    Args:
      student: that is written.
      choice: the family it is written as.
      dtype: of the weights.
      name: of the model.
      library: `"hf"`, `"gguf"` or `"peft"`.
      quantized: whether kernels are stored on their grids.
    """
    run = student.run
    header = {
        "hf": "library_name: transformers\n",
        "peft": "library_name: peft\n",
        "gguf": "",
    }[library]
    facts = "\n".join(f"| {key} | {value} |" for key, value in _facts(student))
    numbers = "\n".join(_numbers(run, student.step))
    converses = "Chat" in run.config.get("train_data", "")
    hf = _CHAT if student.has_template and converses else _HF
    usage = {"hf": hf, "gguf": _GGUF, "peft": _PEFT}[library]
    return f"""\
---
{header}pipeline_tag: text-generation
tags: [retort]
---

# {_plain(name)}

A student of {_size(student)} parameters, of the family `{choice.family}`, written by
Retort after {_steps(student)} of its training.

| | |
|---|---|
{facts}
| weights | {_weights(student, choice, dtype, quantized)} |

## Held-out data

{numbers}

## Use

{usage.format(name=name, begin=student.begin or "Once")}"""


def _facts(student: Student) -> Iterator[tuple[str, str]]:
    run = student.run
    yield "start", _start(student.start)
    yield "teacher", _teacher(run)
    for name, data in run.data.items():
        if "fingerprint" in data:
            sizes = (_plain(data.get(x, "?")) for x in ("rows", "sequence_length"))
            rows = " rows of ".join(sizes)
            node = name if name in run.config else f"evaluations.{name}.data"
            kind = run.config.get(f"{node}.documents") or run.config.get(node, "")
            words = [_plain(kind), rows, f"fingerprint `{_code(data['fingerprint'])}`"]
            yield f"data, {_plain(name)}", ", ".join(filter(None, words))
    if student.vocabulary is not None:
        begin, end = _code(student.begin), _code(student.end)
        ends = f"texts begin with `{begin}` and end with `{end}`"
        template = "; with a chat template" if student.has_template else ""
        yield "tokenizer", f"{student.vocabulary.size:,} tokens; {ends}{template}"
    for term in run.terms:
        loss, weight = (run.of_term(term, field) for field in ("loss", "weight"))
        yield f"term {_plain(term)}", f"`{_code(loss)}`, weight `{_code(weight)}`"
    yield "checkpoint", f"step {student.step:,}, digest `{student.digest}`"


def _start(source: Mapping[str, Any]) -> str:
    """Return what the first weights were: a path's last part, a digest, what stayed."""
    if not source:
        return "fresh weights"
    words = [f"`{_code(_last(str(source.get('path', '?'))))}`"]
    words += [
        f"{_plain(name)} `{_code(source[name])}`"
        for name in ("step", "digest", "layers")
        if source.get(name) is not None
    ]
    return ", ".join(words)


def _teacher(run: Run) -> str:
    kind = run.config.get("teacher", "None")
    if kind == "None":
        return "none"
    described = run.data.get("teacher", {})
    words = [f"{_plain(key)} `{_code(value)}`" for key, value in described.items()]
    names = (run.config.get(f"teacher.{x}", "") for x in ("checkpoint", "records"))
    sources = [f"`{_code(_last(name.strip(chr(39))))}`" for name in names if name]
    return ", ".join([f"`{_code(kind)}`", *sources, *words])


def _last(path: str) -> str:
    """Return the last part: the rest is of the machine that it was trained on."""
    return path.rstrip("/").rsplit("/", 1)[-1]


def _weights(student: Student, choice: Choice, dtype: str, quantized: bool) -> str:
    words = [f"{dtype}"]
    if dtype != student.dtype:
        words = [f"{dtype}, rounded from {student.dtype} to nearest, ties to even"]
    if quantized:
        words.append("kernels on the grid that they were trained on, Q8_0 or Q4_0")
    if choice.folded:
        settings = ", ".join(f"`{_code(x)}`" for x in choice.folded)
        words.append(f"holding {settings}, which the family has no entry for")
    return "; ".join(words)


def _numbers(run: Run, step: int) -> Iterator[str]:
    """Yield the table of all that was measured at a step."""
    rows = [
        (*split_evaluation(name), dict(zip(series.steps, series.values, strict=True)))
        for name, series in run.metrics.items()
        if split_evaluation(name)[0]
    ]
    rows = [(data, metric, v[step]) for data, metric, v in rows if step in v]
    if not rows:
        yield f"Not measured after step {step:,}."
        return
    yield "| data | metric | value |"
    yield "|---|---|---|"
    for data, metric, value in rows:
        yield f"| {_plain(data)} | {_plain(metric)} | {value:.5g} |"


def _steps(student: Student) -> str:
    total = student.run.num_steps
    of = f" of {total:,}" if total is not None else ""
    return f"step {student.step:,}{of}"


def _size(student: Student) -> str:
    sizes = (int(np.prod(x.shape, dtype=np.int64)) for x in student.arrays.values())
    return f"{sum(sizes):,}"


def _plain(text: object) -> str:
    """Text in Markdown that stands for itself, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def _code(text: object) -> str:
    """Text for a code span in a table, on one line."""
    return " ".join(str(text).split()).replace("`", "'").replace("|", "\\|")
