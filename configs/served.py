r"""The student of `configs/distill.py`, taught by a server that is asked as it trains.

    runner --fdl_config=configs/dense.py --workdir=runs/teacher
    runner-export runs/teacher --to=runs/teacher_hf
    vllm serve runs/teacher_hf --served-model-name=teacher --max-logprobs=64 --port=8080
    runner --fdl_config=configs/served.py --workdir=/tmp/served

Another server over a model with the data's tokenizer:
`--fiddler='at("http://localhost:8000", "NAME")'`. llama.cpp's is one where its programs
have a name for the tokenizer, as for those of published models; for that of these texts
they have none, and `runner-export --format=gguf` refuses it. Rows are asked
for once, as they are first wanted, and kept in the cache: the second epoch, a second
run and every point of a sweep ask nothing, and the server may be gone by then.

llama.cpp scores a token a request, a server of vLLM's form a row. All 400 steps, seed
0, with our own forward of a teacher of 300 steps behind a stand-in of vLLM's form:
311 s of the processor, two evaluations included, and 228 s of the server for 3,200
rows, which are asked as the steps go. Held-out loss 4.69 nats/token, 1.75 bits/byte,
a KL of 0.097 from the teacher. Of the same scores, served and imported records are
equal bit for bit.
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
