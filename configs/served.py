r"""The student of `configs/distill.py`, taught by a server that is asked as it trains.

    runner --fdl_config=configs/dense.py --workdir=runs/teacher
    runner-export runs/teacher --to=runs/teacher_gguf --format=gguf
    llama-server --model runs/teacher_gguf/model.gguf --port 8080
    runner --fdl_config=configs/served.py --workdir=/tmp/served

Or any server of vLLM's form over a model with the data's tokenizer, started with
`--max-logprobs=64`: `--fiddler='at("http://localhost:8000", "NAME")'`. Rows are asked
for once, as they are first wanted, and kept in the cache: the second epoch, a second
run and every point of a sweep ask nothing, and the server may be gone by then.

llama.cpp scores a token a request, a server of vLLM's form a row. Time and
result are not measured; from the same scores, served and imported records are equal
bit for bit.
"""

import fiddle as fdl

import runner
from configs import distill


def config() -> fdl.Config:
    cfg = distill.config.as_buildable()
    cfg.teacher = fdl.Config(
        runner.ServedTeacher, url="http://localhost:8080", model="teacher", best=64
    )
    return cfg


def at(cfg: fdl.Config, url: str, model: str):
    """--fiddler='at("http://localhost:8000", "NAME")': another server."""
    cfg.teacher.url, cfg.teacher.model = url, model
