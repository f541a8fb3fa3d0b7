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

The server's tokenizer must be the data's: `runner-export` writes such a model. Of 160
rows (`num_rows` and `num_steps` in a config of one's own, 20 steps), answered by a
stand-in of vLLM's form over a teacher of 300 steps: 7 s of the processor to import,
15 s to train, a KL of 1.40 nats/token after it, as of `configs/served.py`. All 3,200
rows are not measured. Of one teacher, imported and recorded entries are equal to the
steps in which records keep them.
"""

import fiddle as fdl

from configs import distill


def config() -> fdl.Config:
    cfg = distill.config.as_buildable()
    cfg.teacher.records = "runs/imported"
    return cfg
