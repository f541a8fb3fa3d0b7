r"""The student of `configs/distill.py`, taught by what a vLLM server said of its data.

    runner-records prompts --data=configs/import_vllm.py --to=runs/prompts.jsonl

    vllm serve MODEL --max-logprobs=64
    jq -c '. + {max_tokens: 1, prompt_logprobs: 64, return_token_ids: true}' \
      runs/prompts.jsonl | while read -r body; do
      curl -s localhost:8000/v1/completions -H 'Content-Type: application/json' \
      -d "$body"; echo; done > runs/answers.jsonl

    runner-records import runs/answers.jsonl --from=vllm \
      --data=configs/import_vllm.py --to=runs/imported
    runner --fdl_config=configs/import_vllm.py --workdir=/tmp/import_vllm

The server's tokenizer must be the data's: `runner-export` writes such a model. All
rows and 400 steps, seed 0, answered by a stand-in of vLLM's form over a teacher of
300 steps: 85 s of the processor to import, 186 s to train, 4.69 nats/token held out.
Every number that was logged is that of `configs/served.py` over the same teacher, to
the last digit. Imported and recorded entries are equal to the steps in which records
keep them.
"""

import fiddle as fdl

from configs import distill


def config() -> fdl.Config:
    cfg = distill.config.as_buildable()
    cfg.teacher.records = "runs/imported"
    return cfg
